"""The encoders of a denoiser's training step by their sizes: no weights.

A plan is made before a tokenizer is trained. Where a config names none, it is
one of those that come with the package: the first that makes the config's
latents of the config's clips.
"""
from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.builders import denoiser_runs
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.builders import tokenizers
from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules
from walt_jax.text import encoder as text_encoder
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics
from walt_jax.training import compiled
from walt_jax.training import encode as encode_lib

PyTree = Any
# Tokenizers of the package, for clips and for images.
_FOR_CLIPS = ('tokenizer_video', 'quickstart:tokenizer')
_FOR_IMAGES = ('tokenizer_image', *_FOR_CLIPS)
_CACHED_BYTES = 2  # Of a number in a latent cache: bfloat16.
_struct = jax.ShapeDtypeStruct


@dataclasses.dataclass(frozen=True)
class AbsentEncoders:
  """What a denoiser does not train.

  Attributes:
    config: The config that they are of.
    tokenizer: The tokenizer's network.
    source: Where its sizes are from, in words.
    encode_text: `(params, ids, mask) -> states`, or None without text.
    shapes: Shapes of the weights, as `LatentEncoder` takes them.
    platform: Decides the forms of layers.
  """
  config: schema.DenoiserExperiment
  tokenizer: autoencoder.Autoencoder
  source: str
  encode_text: Callable[..., jax.Array] | None
  shapes: dict[str, PyTree]
  platform: str

  def encoder(self, num_shards: int, rows_at_once: int | None = None
              ) -> encode_lib.LatentEncoder:
    """The encoder of a batch, as training has it.

    Args:
      num_shards: Shards of the batch.
      rows_at_once: Rows of a shard in a part; None: as configured.
    """
    if rows_at_once is None:
      rows_at_once = self.config.tokenizer.encode_rows
    return encode_lib.LatentEncoder(
        networks.encoding(self.tokenizer, self.platform), self.encode_text,
        self.config.model.low_res_factor, num_shards, rows_at_once)

  def batch(self, *, cached: bool) -> types.Batch:
    """Shapes of a batch as the data come: pixels, or what a cache holds."""
    data = self.config.data
    return types.Batch(
        self._rows(data.batch_size - data.image_rows, False, cached),
        self._rows(data.image_rows, True, cached))

  def _rows(self, count: int, is_image: bool, cached: bool
            ) -> types.Rows | None:
    """Shapes of rows of one kind; None of none."""
    if not count:
      return None
    data, text = self.config.data, self.config.text
    per_row = self.config.latents.frames if is_image else 1
    tokens = (count, per_row, text.max_tokens)
    fields: dict[str, Any] = dict(
        label=_struct(tokens[:2], jnp.int32),
        own={own.column: _struct((*tokens[:2], *own.shape), jnp.float32)
             for own in networks.own_conditions(self.config.model.conditions)
             } or None)
    if text.name:
      fields['text_mask'] = _struct(tokens, bool)
      fields |= (
          dict(text=_struct((*tokens, text.width), jnp.float32))
          if cached else dict(text_ids=_struct(tokens, jnp.int32)))
    pixels = lambda factor: _struct(
        (count, per_row if is_image else data.num_frames,
         data.height // factor, data.width // factor, 3), jnp.uint8)
    if not cached:
      return types.Rows(pixels=pixels(1), **fields)
    factor = self.config.model.low_res_factor
    return types.Rows(
        posterior=self._posterior(pixels(1), is_image),
        low_res=self._posterior(pixels(factor), is_image) if factor else None,
        **fields)

  def _posterior(self, pixels: PyTree, is_image: bool) -> types.Posterior:
    encode = inference.encode_images if is_image else (
        inference.encode_posterior)
    posterior: types.Posterior = jax.eval_shape(
        functools.partial(encode, self.tokenizer),
        self.shapes['tokenizer']['params'], pixels)
    return posterior

  @property
  def cache_bytes_per_clip(self) -> int:
    """Bytes that a clip takes in a latent cache with a caption of its own, as
    long as the text encoder reads; without records' keys and labels."""
    text = self.config.text
    clip = self._rows(1, False, cached=True)
    assert clip is not None
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(
        (clip.posterior, clip.low_res)))
    if text.name:
      numbers += text.max_tokens * text.width
    return _CACHED_BYTES * numbers

  def shardings(self, mesh: jax.sharding.Mesh) -> PyTree:
    """Where a mesh holds the weights."""
    return rules.tree_shardings(self.shapes, mesh, rules.FROZEN_RULES)

  def trace(self, run: absent_runs.AbsentRun, *, cached: bool
            ) -> jax.stages.Traced:
    """Traces the very program that training encodes a batch with.

    Args:
      run: The train step that takes what it makes.
      cached: Whether batches come from a latent cache.
    """
    stage = dataclasses.replace(
        run.stage, encode=self.encoder(mesh_lib.num_batch_shards(run.mesh)))
    with rules.activate(run.mesh):
      traced = compiled.jit_encode(
          stage, run.mesh, self.shardings(run.mesh)).trace(
              self.shapes, self.batch(cached=cached),
              jax.eval_shape(lambda: jax.random.key(0)),
              _struct((), jnp.int32))
    made, taken = ([(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
                   for tree in (traced.out_info, run.batch))
    if made != taken:
      raise ValueError(f'The train step takes {taken}, not {made}.')
    return traced


def absent_encoders(config: schema.DenoiserExperiment, platform: str
                    ) -> AbsentEncoders:
  """Describes the encoders of a config.

  Args:
    config: Every section but those of model and training is read; of a
      tokenizer or text encoder that it names its `config.json`.
    platform: Decides the forms of layers.

  Raises:
    UserError: If the tokenizer does not make the config's latents, or sizes
      are not known.
  """
  module, source = _tokenizer(config, platform)
  denoiser_runs.check_latents(config, module)
  moments = _struct((config.latents.channels,), jnp.float32)
  shapes: dict[str, Any] = dict(tokenizer=dict(
      params=_params(module, (1, 1, module.f_s, module.f_s, 3), jnp.float32),
      statistics=statistics.LatentStatistics(moments, moments)))
  text = config.text
  if not text.name:
    return AbsentEncoders(config, module, source, None, shapes, platform)
  network = text_encoder.network(
      text.name, text.width, text.path or None,
      dtype=networks.DTYPES[text.dtype])
  shapes['text'] = _params(network, (1, text.max_tokens), jnp.int32, bool)
  return AbsentEncoders(
      config, module, source,
      functools.partial(text_encoder.encode, network, text.width), shapes,
      platform)


def _tokenizer(config: schema.DenoiserExperiment, platform: str
               ) -> tuple[autoencoder.Autoencoder, str]:
  """The network, and in words where it is from."""
  section = config.tokenizer
  if section.workdir:
    return (tokenizers.load_network(section.workdir, platform),
            section.workdir)
  if section.random:
    return (networks.autoencoder(section.random.model, platform),
            'tokenizer.random')
  known = _FOR_IMAGES if config.data.num_frames == 1 else _FOR_CLIPS
  for name in known:
    experiment = schema.of(config_lib.load(
        name, [('model.latent_channels', str(config.latents.channels))]))
    module = networks.autoencoder(experiment.model, platform)
    if denoiser_runs.latents_of(config, module) == (
        denoiser_runs.latents_wanted(config)):
      return module, f'{name}, as tokenizer.workdir is empty'
  raise errors.UserError(
      f'config section latents is {denoiser_runs.latents_wanted(config)}, '
      f'which no tokenizer of {", ".join(known)} makes of '
      f'{config.data.num_frames} x {config.data.height} x '
      f'{config.data.width} pixels; set tokenizer.workdir, or plan with '
      '--no_encoder')


def _params(module: nn.Module, shape: tuple[int, ...], *dtypes: Any) -> PyTree:
  inputs = (_struct(shape, dtype) for dtype in dtypes)
  variables: Any = jax.eval_shape(module.init, jax.random.key(0), *inputs)
  return variables['params']
