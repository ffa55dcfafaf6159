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
from walt_jax.models import branches
from walt_jax.models import cross_attention
from walt_jax.models import modulation
from walt_jax.models import passes
from walt_jax.models import projections as projections_lib
from walt_jax.models import remat
from walt_jax.models import tile_order
from walt_jax.models import token_cuts
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
  passes_form: str
  flat_products: bool
  keeps_activation: bool
  dtype: jnp.dtype
  token_order: tile_order.TileOrder | None = None

  @property
  def rows(self) -> bool:
    """Whether tokens are rows of one matrix in the form for TPUs; XLA joins
    less with such products where each device has a part of a clip's tokens."""
    return self.token_order is not None and token_cuts.num_parts() == 1


class Linear(nn.Module):
  """The parameters of a linear layer whose product is taken elsewhere.

  Attributes:
    features: Width of the output.
    dtype: Compute type; parameters are float32 and returned in it.
  """
  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, width: int) -> tuple[jax.Array, jax.Array]:
    """Kernel [width, features] and bias [features]."""
    kernel = self.param('kernel', attention.PROJECTION_INIT,
                        (width, self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return kernel.astype(self.dtype), bias.astype(self.dtype)


class Mlp(nn.Module):
  """Two linear layers with an activation between.

  Attributes:
    mlp_width: Width of the hidden layer.
    activation: A name of `ACTIVATIONS`.
    passes_form: One of `passes.FORMS`.
    dtype: Compute type; parameters stay float32.
    flat: Whether tokens are rows of one matrix in the form for CPUs, see
      `projections`; the activation is then computed again in the backward
      pass, as CPUs wait longer for memory.
    keeps_activation: See `passes.gelu_product`.
    rows: Whether tokens are rows of one matrix in the form for TPUs.
  """
  mlp_width: int
  activation: str
  passes_form: str
  dtype: jnp.dtype
  flat: bool = False
  keeps_activation: bool = True
  rows: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> branches.Branch:
    """Maps [B, T, H, W, D] to the same shape."""
    if self.activation == 'gelu' and self.passes_form != 'plain':
      return self._fused(x)
    form = (self._flat if self.flat else self._rows if self.rows
            else self._dense)
    return branches.Branch(
        ad_checkpoint.checkpoint_name(form(x), remat.MLP_OUTPUT))

  def _dense(self, x):
    dense = functools.partial(
        nn.Dense, dtype=self.dtype, kernel_init=attention.PROJECTION_INIT)
    hidden = self._named(dense(self.mlp_width, name='mlp_in')(x))
    hidden = ACTIVATIONS[self.activation](hidden)
    return dense(x.shape[-1], name='mlp_out')(hidden)

  def _fused(self, x):
    width = x.shape[-1]
    linear = functools.partial(Linear, dtype=self.dtype)
    kernel, bias = linear(self.mlp_width, name='mlp_in')(width)
    hidden = nn.with_logical_constraint(
        projections_lib.product(x, kernel), HIDDEN_AXES)
    kernel, out_bias = linear(width, name='mlp_out')(self.mlp_width)
    return branches.Branch(
        passes.gelu_product(hidden, bias, kernel, self.passes_form,
                            self.keeps_activation),
        out_bias, remat.MLP_OUTPUT)

  def _flat(self, x):
    width, activation = x.shape[-1], ACTIVATIONS[self.activation]
    linear = functools.partial(Linear, dtype=self.dtype)
    rows = x.reshape(-1, width)
    hidden = projections_lib.linear(
        rows, *linear(self.mlp_width, name='mlp_in')(width))
    hidden = nn.with_logical_constraint(hidden, ('batch', 'mlp'))
    hidden = ad_checkpoint.checkpoint_name(hidden, remat.MLP_HIDDEN)
    hidden = jax.checkpoint(activation, prevent_cse=False)(hidden)
    return projections_lib.linear(
        hidden, *linear(width, name='mlp_out')(self.mlp_width)
    ).reshape(x.shape)

  def _rows(self, x):
    width = x.shape[-1]
    linear = functools.partial(Linear, dtype=self.dtype)
    kernel, bias = linear(self.mlp_width, name='mlp_in')(width)
    hidden = self._named(projections_lib.product(x, kernel) + bias)
    hidden = ACTIVATIONS[self.activation](hidden)
    kernel, bias = linear(width, name='mlp_out')(self.mlp_width)
    return projections_lib.product(hidden, kernel) + bias

  def _named(self, hidden):
    hidden = nn.with_logical_constraint(hidden, HIDDEN_AXES)
    return ad_checkpoint.checkpoint_name(hidden, remat.MLP_HIDDEN)


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
    form, dtype = options.passes_form, options.dtype
    projections: dict[str, Any] = dict(
        width=options.width, num_heads=options.num_heads,
        use_qk_norm=options.use_qk_norm, form=options.attention_form,
        flat=options.flat_products, rows=options.rows,
        adds_bias=form == 'plain',
        order=options.token_order, dtype=options.dtype)

    x = nn.with_logical_constraint(x, TOKEN_AXES)
    x, y = passes.norm(x, shift, scale, dtype, form)
    branch = window_attention.WindowAttention(
        window=window, use_relative_bias=options.use_relative_bias,
        name='attention', **projections)(
            y, context.is_image if self.is_spacetime else None)

    if options.use_text:
      x = passes.residual_sum(x, branch, gate, form)
      y = nn.LayerNorm(epsilon=attention.NORM_EPSILON, dtype=jnp.float32,
                       name='cross_norm')(x)
      branch = cross_attention.CrossAttention(
          window=(window if options.text_window == 'own'
                  else options.spatial_window),
          zero_output=True, name='cross_attention', **projections)(
              y.astype(dtype), context.text, context.text_mask)
      gate = jnp.ones_like(gate)

    x, y = passes.sum_norm(
        x, branch, gate, mlp_shift, mlp_scale, dtype, form)
    branch = Mlp(options.mlp_width, options.activation, form, dtype,
                 options.flat_products, options.keeps_activation,
                 options.rows, name='mlp')(y)
    x = passes.residual_sum(x, branch, mlp_gate, form)
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
