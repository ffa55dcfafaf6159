"""Attention whose queries stay in their own window; a base class."""
from collections.abc import Callable
import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp

from walt_jax.models import attention
from walt_jax.models import branches
from walt_jax.models import tile_order
from walt_jax.models import token_cuts
from walt_jax.models import windows
from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import operands


class WindowProjections(attention.AttentionProjections):
  """Projections of the tokens of a grid that is cut into windows.

  Attributes:
    window: Extent of one window, in tokens.
    order: Order of the tokens of a frame; None: raster order.
  """
  window: windows.Window = (1, 1, 1)
  order: tile_order.TileOrder | None = None

  def over_windows(
      self, x: jax.Array,
      attend: Callable[[jax.Array, windows.Window, str], jax.Array],
      text_length: int = 0,
  ) -> branches.Branch:
    """Maps tokens [B, T, H, W, D], or in their order, to the same shape.

    Args:
      x: Tokens.
      attend: Gives the context [B, T, H, W, K, d] of tokens, an extent of
        windows that tiles their grid and the form of the attention. Where that
        form does not read windows from the grid, the tokens come as a grid
        (N, 1, L) of windows (1, 1, L).
      text_length: Number of text tokens that every window sees besides.
    """
    _, frames, rows, columns, _ = x.shape
    grid = (frames, rows, columns)
    window = self.order.extent(self.window) if self.order else self.window
    sizes = operands.Sizes(
        grid, window, fused_attention.local_heads(
            self.num_heads, columns, window[2]),
        self.width // self.num_heads, text_length, jnp.dtype(self.dtype).name)
    form = fused_attention.served(self.form, sizes)
    if fused_attention.reads_grid(form, sizes):
      return self.tokens(attend(x, window, form))
    if token_cuts.is_cut():  # The plain form cuts out windows by itself.
      plain = (fused_attention.PLAIN_FORM
               if form in fused_attention.KERNEL_FORMS else form)
      return self.tokens(attend(x, window, plain))
    tokens = windows.partition_windows(x, window)
    tokens = nn.with_logical_constraint(
        tokens, ('batch', 'windows', 'tokens', 'embed'))
    context = attend(tokens[:, :, None], (1, 1, sizes.length), form)
    branch = self.tokens(context[:, :, 0])
    return dataclasses.replace(
        branch, values=windows.merge_windows(branch.values, window, grid))

  def windowed(self, x: jax.Array, window: windows.Window, form: str
               ) -> jax.Array:
    """Heads [B, T, H, W, K, d] of tokens where windows of them are whole."""
    return token_cuts.to_windows(x, _axes(x, window, form))

  def at_tokens(self, context: jax.Array, window: windows.Window, form: str
                ) -> jax.Array:
    """What attention gave [B, T, H, W, K, d] where the tokens are."""
    return token_cuts.to_tokens(context, _axes(context, window, form))


def _axes(x: jax.Array, window: windows.Window, form: str) -> token_cuts.Axes:
  return token_cuts.attention_axes(
      x.shape[3], window[2], keeps_rows=form in fused_attention.KERNEL_FORMS)
