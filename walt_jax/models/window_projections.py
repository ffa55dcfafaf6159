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


@dataclasses.dataclass(frozen=True)
class Whole:
  """Whole windows of tokens, and how attention is computed there.

  Attributes:
    window: Extent of a window in the grid of what `heads` gives.
    form: Form of the attention.
    exchange: What makes them whole; None where they are.
  """
  window: windows.Window
  form: str
  exchange: token_cuts.Exchange | None = None

  def heads(self, project: attention.ToHeads, tokens: jax.Array) -> jax.Array:
    """Queries, keys or values of tokens [B, T, H, W, D], of whole windows."""
    x = project(tokens, self.exchange)
    return self.exchange(x) if self.exchange else x

  def tokens(self, context: jax.Array) -> jax.Array:
    """What attention gave of the windows, where their tokens are."""
    return self.exchange(context) if self.exchange else context


class WindowProjections(attention.AttentionProjections):
  """Projections of the tokens of a grid that is cut into windows.

  Attributes:
    window: Extent of one window, in tokens.
    order: Order of the tokens of a frame; None: raster order.
  """
  window: windows.Window = (1, 1, 1)
  order: tile_order.TileOrder | None = None

  def exchange(self, x: jax.Array) -> token_cuts.Exchange | None:
    """What makes windows of tokens [B, T, H, W, D] whole, if they are not."""
    return token_cuts.exchange(x.shape[3], self._window()[2])

  def _window(self) -> windows.Window:
    """Extent of a window of tokens in the order in which they come."""
    return self.order.extent(self.window) if self.order else self.window

  def over_windows(
      self, x: jax.Array, attend: Callable[[jax.Array, Whole], jax.Array],
      text_length: int = 0,
  ) -> branches.Branch:
    """Maps tokens [B, T, H, W, D], or in their order, to the same shape.

    Args:
      x: Tokens.
      attend: Gives the context of tokens as `Whole.tokens` does, in windows
        that `Whole` describes. Where the form of the attention does not read
        windows from the grid, the tokens come as a grid (N, 1, L) of windows
        (1, 1, L).
      text_length: Number of text tokens that every window sees besides.
    """
    _, frames, rows, columns, _ = x.shape
    grid, window = (frames, rows, columns), self._window()
    exchange = self.exchange(x)
    heads = fused_attention.local_heads(self.num_heads)
    if exchange is not None:
      grid, window = exchange.grid(grid), exchange.window(window)
      heads //= exchange.size
    sizes = operands.Sizes(
        grid, window, heads, self.width // self.num_heads, text_length,
        jnp.dtype(self.dtype).name)
    form = fused_attention.served(self.form, sizes)
    if exchange is not None or fused_attention.reads_grid(form, sizes):
      return self.tokens(attend(x, Whole(window, form, exchange)), exchange)
    tokens = windows.partition_windows(x, window)
    tokens = nn.with_logical_constraint(
        tokens, ('batch', 'windows', 'tokens', 'embed'))
    context = attend(
        tokens[:, :, None], Whole((1, 1, sizes.length), form))
    branch = self.tokens(context[:, :, 0])
    return dataclasses.replace(
        branch, values=windows.merge_windows(branch.values, window, grid))
