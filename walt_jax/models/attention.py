"""Scaled dot-product attention in several forms, and its projections."""
from collections.abc import Callable
import functools
import math
from typing import Literal, cast

from flax import linen as nn
import jax
from jax import ad_checkpoint
import jax.numpy as jnp

from walt_jax.models import branches
from walt_jax.models import constants
from walt_jax.models import mapped_attention
from walt_jax.models import projections
from walt_jax.models import remat
from walt_jax.models import token_cuts

# Builders choose the form for the devices of the mesh; all compute the same.
FORMS = ('xla', 'cudnn', 'mapped')
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
  if form == 'mapped':
    return mapped_attention.attend(query, key, value, bias, mask)
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


class ToHeads(nn.Module):
  """Linear map to heads, as one product whose lanes are all heads'.

  Written as a product with [D, K, d] it has outputs that a TPU pads to 128
  lanes a head.

  Attributes:
    num_heads: K.
    width: d, of a head.
    dtype: Compute type; parameters stay float32.
    for_tpu: Whether the gradient of the bias is a product with ones, and a
      sampler keeps the weights as they meet tokens.
    rows: Whether tokens are rows of one matrix in the form for TPUs.
    flat: Whether tokens are rows of one matrix, see `projections`.
    named: Whether the heads have a name for policies of `remat`: with their
      bias, which a product on a GPU takes on its way out.
  """
  num_heads: int
  width: int
  dtype: jnp.dtype
  for_tpu: bool = False
  rows: bool = False
  flat: bool = False
  named: bool = False

  @nn.compact
  def __call__(self, x: jax.Array,
               exchange: token_cuts.Exchange | None = None) -> jax.Array:
    """[..., D] to [..., K, d]; tokens [B, T, 1, C, D] for an exchange to
    [B, size, T, C, K / size, d]."""
    heads = (self.num_heads, self.width)
    kernel = self.param('kernel', _flat_init(1), (x.shape[-1], *heads))
    bias = self.param('bias', nn.initializers.zeros, heads)
    x, kernel, bias = nn.dtypes.promote_dtype(
        x, kernel, bias, dtype=self.dtype)
    kernel = kernel.reshape(x.shape[-1], -1)
    bias = bias.reshape(-1)
    if exchange is not None:
      kernel, bias = (
          constants.once(self, name, functools.partial(
              exchange.pieces, weights, -1))
          for name, weights in (('pieces', kernel), ('bias_pieces', bias)))
      y = jnp.einsum('btrcd,gdk->bgtrck', x, kernel)
      y = (y + bias[:, None, None, None])[:, :, :, 0]
      return y.reshape(*y.shape[:-1], -1, self.width)
    if self.for_tpu:
      # [K, d] of a stack of layers is laid out anew when a layer reads it.
      kernel = constants.once(self, 'lanes', lambda: kernel)
      bias = constants.once(self, 'bias_lanes', lambda: bias)
    if self.flat:
      y = projections.linear(x, kernel, bias)
    else:
      y = (projections.product(x, _keep_lanes(kernel)) if self.rows
           else x @ kernel)
      y = _add_bias(y, bias) if self.for_tpu else y + bias
    if self.named:
      y = ad_checkpoint.checkpoint_name(y, remat.PROJECTION)
    return y.reshape(*x.shape[:-1], *heads)


class FromHeads(nn.Module):
  """Linear map of heads [K, d] to tokens, as one product; see `ToHeads`.

  Attributes:
    width: D, of the tokens.
    dtype: Compute type; parameters stay float32.
    zero: Whether the kernel starts at zero.
    for_tpu: Whether the gradient of the heads is computed as [K d] too, and a
      sampler keeps the weights so.
    rows: Whether tokens are rows of one matrix in the form for TPUs.
    flat: Whether tokens are rows of one matrix, see `projections`.
    adds_bias: Whether the bias is added here; else whoever reads the result
      does that.
  """
  width: int
  dtype: jnp.dtype
  zero: bool = False
  for_tpu: bool = False
  rows: bool = False
  flat: bool = False
  adds_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array,
               exchange: token_cuts.Exchange | None = None) -> branches.Branch:
    """[..., K, d] to [..., D]; of an exchange [B, size, T, C, K / size, d] to
    tokens [B, T, 1, C, D]."""
    init = nn.initializers.zeros if self.zero else _flat_init(2)
    num_heads = x.shape[-2] * (exchange.size if exchange else 1)
    kernel = self.param('kernel', init, (num_heads, x.shape[-1], self.width))
    bias = self.param('bias', nn.initializers.zeros, (self.width,))
    x, kernel, bias = nn.dtypes.promote_dtype(
        x, kernel, bias, dtype=self.dtype)
    x = x.reshape(*x.shape[:-2], -1)
    kernel = kernel.reshape(-1, self.width)
    if self.for_tpu and exchange is None:
      x = _keep_lanes(x)
      kernel = constants.once(self, 'lanes', lambda: kernel)
    if exchange is not None:
      kernel = constants.once(
          self, 'pieces', lambda: exchange.pieces(kernel, 0))
      y = jnp.einsum('bgtck,gkd->btcd', x, kernel)[:, :, None]
    elif self.flat:
      return branches.Branch(projections.linear(x, kernel, bias))
    else:
      y = (projections.product(x, _keep_lanes(kernel)) if self.rows
           else x @ kernel)
    if self.adds_bias:
      return branches.Branch(y + bias)
    return branches.Branch(y, bias)


@jax.custom_vjp
def _add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
  """Adds a bias [D], whose gradient is a product with ones.

  A TPU sums the rows of a bfloat16 array that no fusion made six times slower
  (526,000 cycles for [40960, 1024] on v5p; 83,000 so).
  """
  return y + bias


def _add_bias_backward(_, gradient):
  flat = gradient.reshape(-1, gradient.shape[-1])
  # As many rows of ones as registers have sublanes.
  total = jax.lax.dot_general(
      jnp.ones((8, flat.shape[0]), flat.dtype), flat, (((1,), (0,)), ((), ())),
      preferred_element_type=jnp.float32)[0]
  return gradient, total.astype(gradient.dtype)


_add_bias.defvjp(lambda y, bias: (y + bias, None), _add_bias_backward)


@jax.custom_vjp
def _keep_lanes(x: jax.Array) -> jax.Array:
  """`x`, of which [K d] is a reshape of [K, d]; the product that its gradient
  is is not merged with that reshape, which pads each head to 128 lanes."""
  return x


_keep_lanes.defvjp(
    lambda x: (x, None),
    lambda _, gradient: (jax.lax.optimization_barrier(gradient),))


def _flat_init(num_inputs: int) -> Callable[..., jax.Array]:
  """`PROJECTION_INIT` of a kernel whose first `num_inputs` axes are inputs."""
  def init(rng, shape, dtype=jnp.float32):
    flat = (math.prod(shape[:num_inputs]), math.prod(shape[num_inputs:]))
    return PROJECTION_INIT(rng, flat, dtype).reshape(shape)
  return init


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
    form: Form of the attention, one of `FORMS` or of the kernels' forms.
    flat: Whether tokens are rows of one matrix in the form for CPUs.
    rows: Whether they are in the form for TPUs.
    adds_bias: See `FromHeads`.
    dtype: Compute type; parameters stay float32.
  """
  width: int
  num_heads: int
  use_qk_norm: bool = True
  zero_output: bool = False
  form: str = 'xla'
  flat: bool = False
  rows: bool = False
  adds_bias: bool = True
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    if self.width % self.num_heads:
      raise ValueError(f'num_heads {self.num_heads} does not divide width '
                       f'{self.width}.')
    head_width = self.width // self.num_heads
    for_tpu = self.form.startswith('fused_tpu')
    project = functools.partial(
        ToHeads, self.num_heads, head_width, self.dtype, for_tpu, self.rows,
        self.flat, named=self.form.startswith('fused_gpu'))
    self.query = project()
    self.key = project()
    self.value = project()
    self.out = FromHeads(
        self.width, self.dtype, self.zero_output, for_tpu,
        rows=self.rows, flat=self.flat, adds_bias=self.adds_bias)
    if self.use_qk_norm:
      self.query_norm = HeadScale(head_width)
      self.key_norm = HeadScale(head_width)

  def norm_scales(self) -> tuple[jax.Array | None, jax.Array | None]:
    """Scales float32 [d] of the norms of queries and keys; None without."""
    if not self.use_qk_norm:
      return None, None
    return self.query_norm(), self.key_norm()

  def tokens(self, context: jax.Array,
             exchange: token_cuts.Exchange | None = None) -> branches.Branch:
    """[..., K, d] to [..., D], see `FromHeads`."""
    return self.out(context, exchange)
