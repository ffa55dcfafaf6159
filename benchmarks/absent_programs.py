"""Traces of all that a config runs on devices: nothing is read or allocated."""
from collections.abc import Callable
import dataclasses
import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.builders import networks
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.core import pixels as pixels_lib
from walt_jax.core import types
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules
from walt_jax.text import encoder as text_encoder
from walt_jax.text import minilm
from walt_jax.text import t5
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics
from walt_jax.training import compiled
from walt_jax.training import denoiser_eval
from walt_jax.training import encode as encode_lib

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
# Whose latents a config without a random tokenizer trains on.
_TOKENIZERS = {'quickstart': 'quickstart.py:tokenizer',
               'digits_rollout': 'quickstart.py:tokenizer',
               'imagenet256': 'tokenizer_image.py'}
_TEXT_MODULES = {
    'minilm': functools.partial(minilm.Bert, minilm.BertConfig(
        30_522, 384, 6, 12, 1_536, 512, 2, 1e-12)),
    't5': functools.partial(t5.T5Encoder, t5.T5Config(  # v1.1 XL.
        32_128, 2_048, 64, 24, 32, 5_120, 32, 128, 1e-6, 'gated-gelu'))}
_struct = jax.ShapeDtypeStruct
Traces = dict[str, Callable[[], Any]]  # `trace() -> jax.stages.Traced`.


def traces(config: schema.Experiment, spec: str, platform: str,
           mesh: jax.sharding.Mesh) -> Traces:
  """What a config runs; to be called where the mesh is active.

  Its name `spec` decides on the tokenizer, the platform on programs' forms.
  """
  run = absent_runs.absent_run(config, mesh, platform)
  stage = run.stage

  def step(stage):
    return compiled.jit_train_step(
        stage, mesh, run.shardings, run.frozen_shardings).trace(
            run.state, _struct((), bool), run.batch, _key(), stage.frozen)

  special = (_tokenizer(config, platform, run) if config.stage == 'tokenizer'
             else _denoiser(config, spec, platform, run))
  if stage.opening:
    special['opening_step'] = lambda: step(stage.at_step(0))
  return special | dict(
      init=lambda: jax.jit(
          stage.init, out_shardings=run.shardings).trace(_key()),
      train_step=lambda: step(stage),
      sampler=lambda: _by_rows(
          run, run.draw, run.shardings.params, run.state.params,
          *run.draw_inputs))


def read_by(config, name: str) -> str:
  """All of a config that a program may depend on, as text."""
  sections = config.to_dict()
  if config.stage != 'tokenizer':
    if name in ('encode', 'decode'):
      sections['model'] = config.model.low_res_factor
      for other in ('diffusion', 'optimizer', 'ema', 'sampler'):
        del sections[other]
    else:
      del sections['tokenizer']
  return json.dumps(sections | dict(train=None), sort_keys=True)


def _tokenizer(config, platform: str, run) -> Traces:
  data, module = config.data, networks.autoencoder(config.model, platform)
  encode = lambda params, pixels: inference.encode_posterior(
      module, params['autoencoder'], pixels)
  clips = (run.num_samples, data.num_frames, data.height, data.width, 3)
  return dict(encode=lambda: _by_rows(
      run, encode, run.shardings.params, run.state.params,
      _struct(clips, jnp.uint8)))


def _denoiser(config, spec: str, platform: str, run) -> Traces:
  objective = objectives.objective(config, platform)
  build = functools.cache(lambda: _frozen(config, spec, platform))
  cut = lambda: rules.tree_shardings(
      build().shapes, run.mesh, rules.FROZEN_RULES)

  def encode():
    frozen = build()
    stage = dataclasses.replace(run.stage, encode=encode_lib.LatentEncoder(
        frozen.tokenizer, frozen.encode_text, config.model.low_res_factor,
        mesh_lib.num_batch_shards(run.mesh)))
    traced = compiled.jit_encode(stage, run.mesh, cut()).trace(
        frozen.shapes, types.Batch(_rows(config, frozen, images=False),
                                   _rows(config, frozen, images=True)),
        _key(), _struct((), jnp.int32))
    made, taken = ([(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
                   for tree in (traced.out_info, run.batch))
    if made != taken:
      raise ValueError(f'The train step takes {taken}, not {made}.')
    return traced

  def decode(weights, latents):
    return pixels_lib.to_uint8(inference.decode_pixels(
        build().tokenizer, weights['tokenizer']['params'],
        weights['tokenizer']['statistics'], latents))

  return dict(
      encode=encode,
      decode=lambda: _by_rows(run, decode, cut(), build().shapes, _struct(
          (run.num_samples, *run.batch.latents.shape[1:]), jnp.float32)),
      held_out_loss=lambda: jax.jit(functools.partial(
          denoiser_eval.quartile_sums, objective.held_out_loss)).trace(
              run.state.params, run.batch, _key()))


class _Frozen(NamedTuple):
  """What a denoiser does not train; `shapes` are those of its weights."""
  tokenizer: autoencoder.Autoencoder
  encode_text: Callable[..., jax.Array] | None
  shapes: dict[str, Any]


def _frozen(config, spec: str, platform: str) -> _Frozen:
  name, _, variant = spec.partition(':')
  channels, text = config.latents.channels, config.text
  source = _TOKENIZERS.get(name, 'tokenizer_video.py') + (
      '_long' if variant.endswith('_long') else '')
  section = config.tokenizer.random or schema.of(config_lib.load(
      f'{CONFIGS}/{source}', [('model.latent_channels', str(channels))]))
  module = networks.autoencoder(section.model, platform)
  moments = _struct((channels,), jnp.float32)
  shapes: dict[str, Any] = dict(tokenizer=dict(
      params=_params(module, (1, 1, module.f_s, module.f_s, 3), jnp.float32),
      statistics=statistics.LatentStatistics(moments, moments)))
  if not text.name:
    return _Frozen(module, None, shapes)
  network = _TEXT_MODULES[text.name](dtype=networks.DTYPES[text.dtype])
  shapes['text'] = _params(network, (1, text.max_tokens), jnp.int32, bool)
  return _Frozen(module, text_encoder.TextEncoder(
      text.name, text.width, network, None, None, '').encode, shapes)


def _rows(config, frozen: _Frozen, *, images: bool) -> types.Rows | None:
  """Shapes of the rows of one kind, as the data come."""
  data, text = config.data, config.text
  count = data.image_rows if images else data.batch_size - data.image_rows
  if not count:
    return None
  per_row = config.latents.frames if images else 1
  cached = data.name == 'latents'
  tokens = (count, per_row, text.max_tokens)
  fields: dict[str, Any] = dict(label=_struct(tokens[:2], jnp.int32))
  if text.name:
    fields['text_mask'] = _struct(tokens, bool)
    fields |= (dict(text=_struct((*tokens, text.width), jnp.float32))
               if cached else dict(text_ids=_struct(tokens, jnp.int32)))
  pixels = lambda factor: _struct(
      (count, per_row if images else data.num_frames, data.height // factor,
       data.width // factor, 3), jnp.uint8)
  if not cached:
    return types.Rows(pixels=pixels(1), **fields)
  encode = functools.partial(jax.eval_shape, functools.partial(
      inference.encode_images if images else inference.encode_posterior,
      frozen.tokenizer), frozen.shapes['tokenizer']['params'])
  factor = config.model.low_res_factor
  return types.Rows(
      posterior=encode(pixels(1)),
      low_res=encode(pixels(factor)) if factor else None, **fields)


def _by_rows(run, function: Callable, cut, params, *inputs):
  """Traces `function(params, *inputs)`; all but scalars are cut by rows."""
  rows, whole = (place(run.mesh) for place in (
      mesh_lib.batch_sharding, mesh_lib.replicated))
  return jax.jit(function, in_shardings=(cut, *jax.tree.map(
      lambda x: rows if x.shape else whole, inputs))).trace(params, *inputs)


def _params(module, shape: tuple[int, ...], *dtypes):
  inputs = (_struct(shape, dtype) for dtype in dtypes)
  return jax.eval_shape(module.init, _key(), *inputs)['params']


def _key() -> Any:
  return jax.eval_shape(lambda: jax.random.key(0))
