"""Self-attention inside windows, with a learned relative position bias."""
from flax import linen as nn
import jax
from jax import ad_checkpoint
import jax.numpy as jnp
import numpy as np

from walt_jax.models import branches
from walt_jax.models import constants
from walt_jax.models import remat
from walt_jax.models import tile_order
from walt_jax.models import token_cuts
from walt_jax.models import window_projections
from walt_jax.models import windows
from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import operands

BIAS_INIT = nn.initializers.truncated_normal(0.02)  # As in Swin.


def relative_bias(table: jax.Array, window: windows.Window) -> jax.Array:
  """Expands a table of relative offsets to every pair of tokens of a window.

  One axis at a time by products with 0/1 matrices, whose gradients are
  products too (a gather's gradient would be a scatter).

  Args:
    table: [2 wt - 1, 2 wh - 1, 2 ww - 1, K]; the entry for query minus key
      offset 0 is in the middle.
    window: (wt, wh, ww).

  Returns:
    [K, L, L] bias of query (second axis) and key (third), tokens in raster
    order.
  """
  select = [_offset_selector(extent) for extent in window]
  highest = jax.lax.Precision.HIGHEST  # Copies, not approximations.
  x = jnp.moveaxis(table, -1, 0)
  x = jnp.einsum('ktyx,xab->ktyab', x, select[2], precision=highest)
  x = jnp.einsum('ktyab,ycd->ktcdab', x, select[1], precision=highest)
  x = jnp.einsum('ktcdab,tef->kecafdb', x, select[0], precision=highest)
  length = window[0] * window[1] * window[2]
  return x.reshape(-1, length, length)


def _offset_selector(extent: int) -> np.ndarray:
  """float32 [2 n - 1, n, n]: 1 where query - key + n - 1 is the first index."""
  position = np.arange(extent)
  offset = position[:, None] - position[None] + extent - 1
  index = np.arange(2 * extent - 1)[:, None, None]
  return (index == offset).astype(np.float32)


class WindowAttention(window_projections.WindowProjections):
  """Multi-head attention whose tokens only see their own window.

  Attributes:
    use_relative_bias: A learned bias per head and relative offset.
  """
  use_relative_bias: bool = True

  def setup(self):
    super().setup()
    if self.use_relative_bias:
      shape = (*(2 * extent - 1 for extent in self.window), self.num_heads)
      self.relative_bias = self.param('relative_bias', BIAS_INIT, shape)

  def __call__(
      self, x: jax.Array, is_image: jax.Array | None = None
  ) -> branches.Branch:
    """Maps tokens [B, T, H, W, D] to [B, T, H, W, D].

    Args:
      x: Tokens.
      is_image: bool [B]; rows whose tokens see themselves alone (identity
        attention mask, section 4.2): each value passes through as it is.
        None: no such row, and nothing is computed for it.
    """
    query_scale, key_scale = self.norm_scales()
    bias = None
    if self.use_relative_bias:
      bias = constants.once(
          self, 'bias', lambda: self._bias_at(self.exchange(x)))
      bias = ad_checkpoint.checkpoint_name(bias, remat.RELATIVE_BIAS)

    def attend(tokens, whole):
      query, key, value = (
          whole.heads(project, tokens)
          for project in (self.query, self.key, self.value))
      return whole.tokens(fused_attention.attend(
          operands.Operands(
              query, key, value, query_scale, key_scale, bias, is_image),
          whole.window, whole.form))

    return self.over_windows(x, attend)

  def _bias_at(self, exchange: token_cuts.Exchange | None) -> jax.Array:
    """[K, L, L] for the heads and the order of tokens where windows are."""
    bias = self._bias()
    if exchange is None:
      return bias
    with jax.named_scope('relative_bias'):  # By which a ledger knows it.
      return exchange.in_order(exchange.own_heads(bias, 0), self.window[0])

  def _bias(self) -> jax.Array:
    """[K, L, L] for tokens in the order in which they come."""
    if self.order is not None:
      return tile_order.relative_bias(
          self.relative_bias, self.window, self.order.tile)
    if self.window[0] > 1 and self.form.startswith('fused_tpu'):
      # What a window holds of a frame is one tile.
      return tile_order.relative_bias(
          self.relative_bias, self.window, self.window[1:])
    return relative_bias(self.relative_bias, self.window)
