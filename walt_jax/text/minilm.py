"""BERT encoder (Devlin et al., 1810.04805), for the packaged MiniLM weights.

Parameters are those of Hugging Face's `BertModel` without its pooler, kernels
transposed to [in, out] and stacked over the layers.
"""
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.text import weights

_SUPPORTED = dict(model_type='bert', hidden_act='gelu',
                  position_embedding_type='absolute')


@dataclasses.dataclass(frozen=True)
class BertConfig:
  """Sizes, named as in this project."""
  vocabulary: int
  width: int
  num_layers: int
  num_heads: int
  mlp_width: int
  max_positions: int
  num_segments: int
  epsilon: float

  @classmethod
  def from_json(cls, config: dict[str, Any]) -> 'BertConfig':
    """Reads a Hugging Face `config.json`.

    Raises:
      errors.UserError: A variant of BERT that is not implemented.
    """
    for key, value in _SUPPORTED.items():
      if config.get(key, value) != value:
        raise errors.UserError(
            f'the text encoder must have {key} {value!r}, its config.json '
            f'says {config[key]!r}')
    try:
      return cls(
          vocabulary=config['vocab_size'], width=config['hidden_size'],
          num_layers=config['num_hidden_layers'],
          num_heads=config['num_attention_heads'],
          mlp_width=config['intermediate_size'],
          max_positions=config['max_position_embeddings'],
          num_segments=config['type_vocab_size'],
          epsilon=config['layer_norm_eps'])
    except KeyError as error:
      raise errors.UserError(
          f"the text encoder's config.json lacks {error}") from None


# Sizes of the packaged weights.
PACKAGED = BertConfig(
    vocabulary=30_522, width=384, num_layers=6, num_heads=12, mlp_width=1_536,
    max_positions=512, num_segments=2, epsilon=1e-12)


class _Layer(nn.Module):
  """Attention and MLP, each followed by a sum and a LayerNorm."""
  config: BertConfig
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array):
    """Maps [N, L, D], with mask [N, L], to [N, L, D] (and no scan output)."""
    config = self.config
    heads = (config.num_heads, config.width // config.num_heads)
    dense = lambda features, name: nn.DenseGeneral(
        features, dtype=self.dtype, name=name)
    norm = lambda name: nn.LayerNorm(
        epsilon=config.epsilon, use_fast_variance=False, name=name)
    attended = jax.nn.dot_product_attention(
        dense(heads, 'query')(x), dense(heads, 'key')(x),
        dense(heads, 'value')(x), mask=mask[:, None, None, :])
    attended = nn.DenseGeneral(config.width, (-2, -1), dtype=self.dtype,
                               name='out')(attended)
    x = norm('attention_norm')(x + attended)
    hidden = nn.gelu(dense(config.mlp_width, 'mlp_in')(x), approximate=False)
    x = norm('mlp_norm')(x + dense(config.width, 'mlp_out')(hidden))
    return x, None


class Bert(nn.Module):
  """Token states of one-segment texts.

  Attributes:
    config: Sizes.
    dtype: Type of the matmuls; norms and the result are float32.
  """
  config: BertConfig
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Maps ids int [N, L] and mask bool [N, L] to float32 [N, L, D].

    States at padding are zero.
    """
    config = self.config
    table = lambda rows, name: nn.Embed(rows, config.width, name=name)
    positions = table(config.max_positions, 'positions')(
        jnp.arange(ids.shape[-1]))
    segments = table(config.num_segments, 'segments')(jnp.zeros((), jnp.int32))
    x = table(config.vocabulary, 'words')(ids) + segments + positions
    x = nn.LayerNorm(epsilon=config.epsilon, use_fast_variance=False,
                     name='norm')(x)
    layers = nn.scan(
        _Layer, variable_axes={'params': 0}, split_rngs={'params': True},
        in_axes=nn.broadcast, length=config.num_layers,
        check_constancy_invariants=False)
    x, _ = layers(config, self.dtype, name='layers')(x, mask)
    return jnp.where(mask[..., None], x, 0).astype(jnp.float32)


def read_params(folder: weights.SafetensorsFolder,
                config: BertConfig) -> dict[str, Any]:
  """Reads Hugging Face's `BertModel` into the parameters of `Bert`."""
  prefix = 'bert.' if 'bert.embeddings.LayerNorm.weight' in folder else ''
  width, mlp_width = config.width, config.mlp_width
  heads = (config.num_heads, width // config.num_heads)

  def norm(name: str):
    return dict(scale=folder.read(f'{prefix}{name}.weight', (width,)),
                bias=folder.read(f'{prefix}{name}.bias', (width,)))

  def dense(name: str, fan_in: int, fan_out: int):
    kernel = folder.read(f'{prefix}{name}.weight', (fan_out, fan_in))
    return dict(kernel=kernel.T,
                bias=folder.read(f'{prefix}{name}.bias', (fan_out,)))

  def table(name: str, rows: int):
    name = f'{prefix}embeddings.{name}_embeddings.weight'
    return dict(embedding=folder.read(name, (rows, width)))

  def layer(number: int):
    name = f'encoder.layer.{number}.'
    projections = {
        role: dense(f'{name}attention.self.{role}', width, width)
        for role in ('query', 'key', 'value')}
    for projection in projections.values():
      projection['kernel'] = projection['kernel'].reshape(width, *heads)
      projection['bias'] = projection['bias'].reshape(heads)
    out = dense(f'{name}attention.output.dense', width, width)
    out['kernel'] = out['kernel'].reshape(*heads, width)
    return projections | dict(
        out=out, attention_norm=norm(f'{name}attention.output.LayerNorm'),
        mlp_in=dense(f'{name}intermediate.dense', width, mlp_width),
        mlp_out=dense(f'{name}output.dense', mlp_width, width),
        mlp_norm=norm(f'{name}output.LayerNorm'))

  layers = [layer(number) for number in range(config.num_layers)]
  return dict(
      words=table('word', config.vocabulary),
      positions=table('position', config.max_positions),
      segments=table('token_type', config.num_segments),
      norm=norm('embeddings.LayerNorm'),
      layers=jax.tree.map(lambda *leaves: np.stack(leaves), *layers))
