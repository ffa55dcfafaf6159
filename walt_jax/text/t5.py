"""T5 encoder (Raffel et al., 1910.10683; v1.1: gated MLP, Shazeer 2002.05202).

Parameters are those of Hugging Face's `T5EncoderModel`, kernels transposed to
[in, out], cut into heads and stacked over the layers.
"""
from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.text import weights

# `feed_forward_proj` of config.json: is there a gate, and the activation.
_ACTIVATIONS: dict[str, tuple[bool, Callable[[jax.Array], jax.Array]]] = {
    'relu': (False, jax.nn.relu),
    'gelu': (False, functools.partial(jax.nn.gelu, approximate=False)),
    'gated-gelu': (True, functools.partial(jax.nn.gelu, approximate=True)),
    'gated-silu': (True, jax.nn.silu),
}
_TOKEN_AXES = ('batch', 'tokens', 'embed')
_HIDDEN_AXES = ('batch', 'tokens', 'mlp')


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Sizes, named as in this project.

  Attributes:
    vocabulary: Rows of the embedding; the vocabulary may fill fewer.
    width: D.
    head_width: d of each head; num_heads * d need not be the width.
    num_layers: Blocks of attention and MLP.
    num_heads: K.
    mlp_width: Width of the MLPs' hidden layer.
    num_buckets: Rows of the relative position bias.
    max_distance: Offsets from here on share one bucket.
    epsilon: Epsilon of the norms.
    feed_forward: 'relu' (T5), 'gated-gelu' (v1.1), 'gelu' or 'gated-silu'.
  """
  vocabulary: int
  width: int
  head_width: int
  num_layers: int
  num_heads: int
  mlp_width: int
  num_buckets: int
  max_distance: int
  epsilon: float
  feed_forward: str

  @property
  def is_gated(self) -> bool:
    """Whether the hidden layer is multiplied by a second projection."""
    return _ACTIVATIONS[self.feed_forward][0]

  @classmethod
  def from_json(cls, config: dict[str, Any]) -> 'T5Config':
    """Reads a Hugging Face `config.json`.

    Raises:
      errors.UserError: Another model, or a variant that is not implemented.
    """
    if config.get('model_type', 't5') != 't5':
      raise errors.UserError(
          "the text encoder must have model_type 't5', its config.json says "
          f'{config["model_type"]!r}')
    feed_forward = config.get('feed_forward_proj', 'relu')
    if feed_forward not in _ACTIVATIONS:
      raise errors.UserError(
          f'the text encoder has feed_forward_proj {feed_forward!r}; known: '
          f'{", ".join(_ACTIVATIONS)}')
    try:
      return cls(
          vocabulary=config['vocab_size'], width=config['d_model'],
          head_width=config['d_kv'], num_layers=config['num_layers'],
          num_heads=config['num_heads'], mlp_width=config['d_ff'],
          num_buckets=config['relative_attention_num_buckets'],
          max_distance=config.get('relative_attention_max_distance', 128),
          epsilon=config['layer_norm_epsilon'], feed_forward=feed_forward)
    except KeyError as error:
      raise errors.UserError(
          f"the text encoder's config.json lacks {error}") from None


def _v1_1(width: int, num_layers: int, num_heads: int, mlp_width: int
          ) -> T5Config:
  return T5Config(
      vocabulary=32_128, width=width, head_width=64, num_layers=num_layers,
      num_heads=num_heads, mlp_width=mlp_width, num_buckets=32,
      max_distance=128, epsilon=1e-6, feed_forward='gated-gelu')


# T5 v1.1 as published: small, base, large, XL and XXL, by their width.
V1_1 = {config.width: config for config in (
    _v1_1(512, 8, 6, 1_024), _v1_1(768, 12, 12, 2_048),
    _v1_1(1_024, 24, 16, 2_816), _v1_1(2_048, 24, 32, 5_120),
    _v1_1(4_096, 24, 64, 10_240))}


def relative_buckets(length: int, num_buckets: int,
                     max_distance: int) -> np.ndarray:
  """Buckets int [L, L] of the offsets key - query.

  Half of the buckets are for keys behind the query. Of each half, the first
  half are single offsets, and the others grow with the logarithm of the offset
  up to `max_distance`.
  """
  position = np.arange(length)
  offset = position[None] - position[:, None]
  half = num_buckets // 2
  exact = half // 2
  distance = np.abs(offset)
  # float32, like the reference: its rounding decides at the borders.
  ratio = np.maximum(distance, 1).astype(np.float32) / np.float32(exact)
  scaled = (np.log(ratio) / np.float32(math.log(max_distance / exact)) *
            np.float32(half - exact))
  far = np.minimum(exact + scaled.astype(np.int64), half - 1)
  return np.where(offset > 0, half, 0) + np.where(
      distance < exact, distance, far)


class _Layer(nn.Module):
  """Attention and MLP, each after an RMSNorm and added to what came in."""
  config: T5Config
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, bias: jax.Array, mask: jax.Array):
    """Maps float32 [N, L, D] to the same (and no scan output).

    Args:
      x: Token states.
      bias: float32 [1, K, L, L].
      mask: bool [N, L].
    """
    config = self.config
    _, activation = _ACTIVATIONS[config.feed_forward]
    heads = (config.num_heads, config.head_width)
    dense = lambda features, name, axis=-1: nn.DenseGeneral(
        features, axis, use_bias=False, dtype=self.dtype,
        param_dtype=self.dtype, name=name)
    norm = lambda name: nn.RMSNorm(
        epsilon=config.epsilon, use_fast_variance=False, dtype=jnp.float32,
        name=name)

    x = nn.with_logical_constraint(x, _TOKEN_AXES)
    y = norm('attention_norm')(x)
    y = jax.nn.dot_product_attention(
        dense(heads, 'query')(y), dense(heads, 'key')(y),
        dense(heads, 'value')(y), bias=bias, mask=mask[:, None, None, :],
        scale=1.0)  # The scale is in the weights.
    x = x + dense(config.width, 'out', (-2, -1))(y).astype(jnp.float32)

    y = norm('mlp_norm')(x)
    hidden = activation(dense(config.mlp_width, 'mlp_in')(y))
    if config.is_gated:
      hidden = hidden * dense(config.mlp_width, 'mlp_gate')(y)
    hidden = nn.with_logical_constraint(hidden, _HIDDEN_AXES)
    x = x + dense(config.width, 'mlp_out')(hidden).astype(jnp.float32)
    return nn.with_logical_constraint(x, _TOKEN_AXES), None


class T5Encoder(nn.Module):
  """Token states of texts.

  Attributes:
    config: Sizes.
    dtype: Type of the matmuls and of their (frozen) weights; norms, softmax,
      sums and the result are float32.
  """
  config: T5Config
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Maps ids int [N, L] and mask bool [N, L] to float32 [N, L, D].

    States at padding are zero.
    """
    config = self.config
    x = nn.Embed(config.vocabulary, config.width, param_dtype=self.dtype,
                 name='words')(ids).astype(jnp.float32)
    table = self.param('relative_bias', nn.initializers.normal(),
                       (config.num_buckets, config.num_heads))
    buckets = relative_buckets(
        ids.shape[-1], config.num_buckets, config.max_distance)
    bias = jnp.moveaxis(table[buckets], -1, 0)[None]
    layers = nn.scan(
        _Layer, variable_axes={'params': 0}, split_rngs={'params': True},
        in_axes=nn.broadcast, length=config.num_layers,
        check_constancy_invariants=False)
    x, _ = layers(config, self.dtype, name='layers')(x, bias, mask)
    x = nn.RMSNorm(epsilon=config.epsilon, use_fast_variance=False,
                   dtype=jnp.float32, name='norm')(x)
    return jnp.where(mask[..., None], x, 0)


def read_params(folder: weights.SafetensorsFolder, config: T5Config,
                dtype: Any = jnp.float32) -> dict[str, Any]:
  """Reads Hugging Face's T5 (its encoder) into parameters of `T5Encoder`.

  Args:
    folder: Weights of `T5EncoderModel`, or of a whole T5.
    config: Sizes to expect.
    dtype: Type to keep matrices in.
  """
  width, mlp_width = config.width, config.mlp_width
  heads = (config.num_heads, config.head_width)
  inner = config.num_heads * config.head_width

  def stack(name: str, shape: tuple[int, ...], kept: tuple[int, ...],
            as_type: Any) -> np.ndarray:
    """One tensor of every layer, a matrix transposed to [in, out]."""
    stacked = np.empty((config.num_layers, *kept), as_type)
    for layer in range(config.num_layers):
      tensor = folder.read(f'encoder.block.{layer}.{name}.weight', shape,
                           as_type)
      stacked[layer] = tensor.T.reshape(kept)
    return stacked

  def dense(name: str, fan_in: int, fan_out: int, kept: tuple[int, ...] = ()):
    return dict(kernel=stack(name, (fan_out, fan_in),
                             kept or (fan_in, fan_out), dtype))

  def norm(name: str):
    return dict(scale=stack(name, (width,), (width,), np.float32))

  attention, mlp = 'layer.0.SelfAttention', 'layer.1.DenseReluDense'
  layers = {
      role: dense(f'{attention}.{role[0]}', width, inner, (width, *heads))
      for role in ('query', 'key', 'value')}
  layers |= dict(
      out=dense(f'{attention}.o', inner, width, (*heads, width)),
      attention_norm=norm('layer.0.layer_norm'),
      mlp_out=dense(f'{mlp}.wo', mlp_width, width),
      mlp_norm=norm('layer.1.layer_norm'))
  if config.is_gated:
    layers['mlp_in'] = dense(f'{mlp}.wi_0', width, mlp_width)
    layers['mlp_gate'] = dense(f'{mlp}.wi_1', width, mlp_width)
  else:
    layers['mlp_in'] = dense(f'{mlp}.wi', width, mlp_width)
  words = ('shared.weight' if 'shared.weight' in folder
           else 'encoder.embed_tokens.weight')
  return dict(
      words=dict(embedding=folder.read(
          words, (config.vocabulary, width), dtype)),
      relative_bias=folder.read(
          f'encoder.block.0.{attention}.relative_attention_bias.weight',
          (config.num_buckets, config.num_heads)),
      layers=layers,
      norm=dict(scale=folder.read(
          'encoder.final_layer_norm.weight', (width,))))
