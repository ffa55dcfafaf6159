"""One layer of the denoiser, and the pair of layers that is repeated."""
from collections.abc import Callable
import dataclasses
import functools
from typing import Any

from flax import linen as nn
from flax import struct
import jax
from jax import ad_checkpoint
import jax.numpy as jnp

from walt_jax.models import attention
from walt_jax.models import cross_attention
from walt_jax.models import modulation
from walt_jax.models import remat
from walt_jax.models import window_attention
from walt_jax.models import windows

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'gelu': functools.partial(jax.nn.gelu, approximate=True),
    # Primer 2109.08668; a third of GELU's time on a CPU.
    'relu2': lambda x: jnp.square(jax.nn.relu(x)),
}
TOKEN_AXES = ('batch', 'frames', 'rows', 'columns', 'embed')
HIDDEN_AXES = ('batch', 'frames', 'rows', 'columns', 'mlp')


@struct.dataclass
class LayerContext:
  """What every layer sees besides the tokens.

  Attributes:
    embedding: SiLU of the embedding of time and global condition [B, F, D].
    shared_modulation: A_1 [B, F, 6 D], or None with one MLP a layer.
    text: [B, F, S, D] with `text_mask` bool [B, F, S], or None.
    is_image: bool [B], or None when no row holds images.
  """
  embedding: jax.Array
  shared_modulation: jax.Array | None = None
  text: jax.Array | None = None
  text_mask: jax.Array | None = None
  is_image: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class LayerOptions:
  """Static settings that all layers share; see `denoiser.Denoiser`."""
  width: int
  num_heads: int
  mlp_width: int
  spatial_window: windows.Window
  spacetime_window: windows.Window
  text_window: str
  lora_rank: int
  use_text: bool
  use_qk_norm: bool
  use_relative_bias: bool
  activation: str
  attention_form: str
  dtype: jnp.dtype


class Mlp(nn.Module):
  """Two linear layers with an activation between.

  Attributes:
    mlp_width: Width of the hidden layer.
    activation: A name of `ACTIVATIONS`.
    dtype: Compute type; parameters stay float32.
  """
  mlp_width: int
  activation: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, T, H, W, D] to the same shape."""
    dense = functools.partial(
        nn.Dense, dtype=self.dtype, kernel_init=attention.PROJECTION_INIT)
    hidden = dense(self.mlp_width, name='mlp_in')(x)
    hidden = nn.with_logical_constraint(hidden, HIDDEN_AXES)
    hidden = ad_checkpoint.checkpoint_name(hidden, remat.MLP_HIDDEN)
    hidden = ACTIVATIONS[self.activation](hidden)
    return dense(x.shape[-1], name='mlp_out')(hidden)


class Layer(nn.Module):
  """Window attention, cross-attention to text if any, and an MLP.

  Attributes:
    options: Settings of all layers.
    is_spacetime: Whether this is the pair's spatiotemporal layer (STW), in
      which image rows have an identity attention mask.
  """
  options: LayerOptions
  is_spacetime: bool

  @nn.compact
  def __call__(self, x: jax.Array, context: LayerContext) -> jax.Array:
    """Maps tokens [B, T, H, W, D] to the same shape."""
    options = self.options
    window = (options.spacetime_window if self.is_spacetime
              else options.spatial_window)
    vectors = self._modulation(context)
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = jnp.split(
        vectors, modulation.NUM_VECTORS, axis=-1)
    norm = functools.partial(
        nn.LayerNorm, epsilon=attention.NORM_EPSILON, use_bias=False,
        use_scale=False, dtype=jnp.float32)
    projections: dict[str, Any] = dict(
        width=options.width, num_heads=options.num_heads,
        use_qk_norm=options.use_qk_norm, form=options.attention_form,
        dtype=options.dtype)

    x = nn.with_logical_constraint(x, TOKEN_AXES)
    y = modulation.modulate(norm(name='norm')(x), shift, scale)
    y = window_attention.WindowAttention(
        window=window, use_relative_bias=options.use_relative_bias,
        name='attention', **projections)(
            y.astype(options.dtype),
            context.is_image if self.is_spacetime else None)
    x = _add(x, y, gate)

    if options.use_text:
      y = nn.LayerNorm(epsilon=attention.NORM_EPSILON, dtype=jnp.float32,
                       name='cross_norm')(x)
      y = cross_attention.CrossAttention(
          window=(window if options.text_window == 'own'
                  else options.spatial_window),
          zero_output=True, name='cross_attention', **projections)(
              y.astype(options.dtype), context.text, context.text_mask)
      x = _add(x, y)

    y = modulation.modulate(norm(name='mlp_norm')(x), mlp_shift, mlp_scale)
    y = Mlp(options.mlp_width, options.activation, options.dtype, name='mlp')(
        y.astype(options.dtype))
    y = ad_checkpoint.checkpoint_name(y, remat.MLP_OUTPUT)
    x = _add(x, y, mlp_gate)
    return nn.with_logical_constraint(x, TOKEN_AXES)

  def _modulation(self, context: LayerContext) -> jax.Array:
    """The layer's six vectors [B, F, 6 D], float32."""
    options = self.options
    if not options.lora_rank:
      return modulation.linear_modulation(
          context.embedding, modulation.NUM_VECTORS, options.width,
          'modulation')
    return context.shared_modulation + modulation.LowRankModulation(
        options.lora_rank, name='modulation')(context.embedding)


class LayerPair(nn.Module):
  """A spatial (SW) and a spatiotemporal (STW) layer: the unit of the scan.

  Attributes:
    options: Settings of all layers.
    remat_policy: A name of `remat.POLICIES`.
    prevent_cse: See `remat.rematerialise`.
  """
  options: LayerOptions
  remat_policy: str
  prevent_cse: bool

  @nn.compact
  def __call__(
      self, x: jax.Array, context: LayerContext) -> tuple[jax.Array, None]:
    """Maps tokens [B, T, H, W, D] to the same shape, and nothing to stack."""
    layer = remat.rematerialise(
        Layer, self.remat_policy, prevent_cse=self.prevent_cse)
    x = layer(self.options, is_spacetime=False, name='spatial')(x, context)
    x = layer(self.options, is_spacetime=True, name='spacetime')(x, context)
    return x, None


def _add(x: jax.Array, y: jax.Array, gate: jax.Array | None = None):
  """The residual sum, in the type of `x`; `gate` [B, F, D]."""
  if gate is not None:
    y = modulation.per_token(gate) * y
  return (x + y).astype(x.dtype)
