"""Scaled dot-product attention in several forms, and its projections."""
import functools
from typing import Literal, cast

from flax import linen as nn
import jax
import jax.numpy as jnp

# Builders choose the form for the devices of the mesh; all compute the same.
FORMS = ('xla', 'cudnn')
PROJECTION_INIT = nn.initializers.xavier_uniform()
NORM_EPSILON = 1e-6


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, *,
    bias: jax.Array | None = None, mask: jax.Array | None = None,
    form: str = 'xla',
) -> jax.Array:
  """Attention of each window's queries to its own keys.

  Args:
    query: [..., L, K, d], any leading axes (batch, windows).
    key: [..., S, K, d].
    value: Values, of the keys' shape.
    bias: [K, L, S], added to the logits of every window.
    mask: bool [..., S], true at keys that may be seen.
    form: One of `FORMS`.

  Returns:
    [..., L, K, d] in the type of `value`.
  """
  if form not in FORMS:
    raise ValueError(f'Unknown attention form {form!r}; choose of {FORMS}.')
  lead = query.shape[:-3]
  flat = lambda x: x.reshape(-1, *x.shape[-3:])
  if mask is not None:
    mask = mask.reshape(-1, 1, 1, mask.shape[-1])
    if form == 'cudnn':  # It takes one row of the mask for each query.
      mask = jnp.broadcast_to(
          mask, (*mask.shape[:2], query.shape[-3], mask.shape[-1]))
  if bias is not None:
    bias = bias[None].astype(query.dtype if form == 'cudnn' else jnp.float32)
  out = jax.nn.dot_product_attention(
      flat(query), flat(key), flat(value), bias=bias, mask=mask,
      implementation=cast(Literal['xla', 'cudnn'], form))
  return out.reshape(*lead, *out.shape[1:])


def normalise(x: jax.Array, scale: jax.Array | None) -> jax.Array:
  """LayerNorm of each head [..., d] in float32, without a bias.

  Args:
    x: Queries or keys, as projected.
    scale: float32 [d]; None: `x` is returned as it is.

  Returns:
    The normalised `x`, in its type.
  """
  if scale is None:
    return x
  wide = x.astype(jnp.float32)
  mean = wide.mean(-1, keepdims=True)
  variance = jnp.square(wide).mean(-1, keepdims=True) - jnp.square(mean)
  factor = jax.lax.rsqrt(jnp.maximum(variance, 0) + NORM_EPSILON) * scale
  return ((wide - mean) * factor).astype(x.dtype)


class HeadScale(nn.Module):
  """The learned scale of a LayerNorm of heads.

  Attributes:
    width: d, of a head.
  """
  width: int

  @nn.compact
  def __call__(self) -> jax.Array:
    """float32 [d]."""
    return self.param('scale', nn.initializers.ones, (self.width,))


class AttentionProjections(nn.Module):
  """Queries, keys and values of tokens, and the way back; a base class.

  Attributes:
    width: D.
    num_heads: K; must divide D.
    use_qk_norm: LayerNorm (scale, no bias) of queries and keys (ViT-22B),
      which bounds the logits.
    zero_output: Whether the output projection starts at zero.
    form: Form of the attention, one of `FORMS`.
    dtype: Compute type; parameters stay float32.
  """
  width: int
  num_heads: int
  use_qk_norm: bool = True
  zero_output: bool = False
  form: str = 'xla'
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    if self.width % self.num_heads:
      raise ValueError(f'num_heads {self.num_heads} does not divide width '
                       f'{self.width}.')
    heads = (self.num_heads, self.width // self.num_heads)
    project = functools.partial(
        nn.DenseGeneral, heads, dtype=self.dtype, kernel_init=PROJECTION_INIT)
    self.query = project()
    self.key = project()
    self.value = project()
    self.out = nn.DenseGeneral(
        self.width, (-2, -1), dtype=self.dtype,
        kernel_init=(nn.initializers.zeros if self.zero_output
                     else PROJECTION_INIT))
    if self.use_qk_norm:
      self.query_norm = HeadScale(heads[1])
      self.key_norm = HeadScale(heads[1])

  def norm_scales(self) -> tuple[jax.Array | None, jax.Array | None]:
    """Scales float32 [d] of the norms of queries and keys; None without."""
    if not self.use_qk_norm:
      return None, None
    return self.query_norm(), self.key_norm()

  def tokens(self, context: jax.Array) -> jax.Array:
    """[..., K, d] to [..., D]."""
    return self.out(context)
