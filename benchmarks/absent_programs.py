"""Traces of all that a config runs on devices: nothing is read or allocated."""
from collections.abc import Callable
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.builders import absent_encoders
from walt_jax.builders import absent_runs
from walt_jax.builders import networks
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.core import pixels as pixels_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.tokenizer import inference
from walt_jax.training import compiled
from walt_jax.training import denoiser_eval

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
_struct = jax.ShapeDtypeStruct
Traces = dict[str, Callable[[], Any]]  # `trace() -> jax.stages.Traced`.


def traces(config: schema.Experiment, platform: str,
           mesh: jax.sharding.Mesh) -> Traces:
  """What a config runs; to be called where the mesh is active.

  The platform decides on the programs' forms.
  """
  run = absent_runs.absent_run(config, mesh, platform)
  stage = run.stage

  def step(stage):
    return compiled.jit_train_step(
        stage, mesh, run.shardings, run.frozen_shardings).trace(
            run.state, _struct((), bool), run.batch, _key(), stage.frozen)

  special = (_tokenizer(config, platform, run) if config.stage == 'tokenizer'
             else _denoiser(config, platform, run))
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


def _denoiser(config, platform: str, run) -> Traces:
  objective = objectives.objective(config, platform)
  build = functools.cache(lambda: absent_encoders.absent_encoders(
      config, platform))

  def decode(weights, latents):
    return pixels_lib.to_uint8(inference.decode_pixels(
        build().tokenizer, weights['tokenizer']['params'],
        weights['tokenizer']['statistics'], latents))

  return dict(
      encode=lambda: build().trace(
          run, cached=config.data.name == 'latents'),
      decode=lambda: _by_rows(
          run, decode, build().shardings(run.mesh), build().shapes, _struct(
              (run.num_samples, *run.batch.latents.shape[1:]), jnp.float32)),
      held_out_loss=lambda: jax.jit(functools.partial(
          denoiser_eval.quartile_sums, objective.held_out_loss)).trace(
              run.state.params, run.batch, _key()))


def _by_rows(run, function: Callable, cut, params, *inputs):
  """Traces `function(params, *inputs)`; all but scalars are cut by rows."""
  rows, whole = (place(run.mesh) for place in (
      mesh_lib.batch_sharding, mesh_lib.replicated))
  return jax.jit(function, in_shardings=(cut, *jax.tree.map(
      lambda x: rows if x.shape else whole, inputs))).trace(params, *inputs)


def _key() -> Any:
  return jax.eval_shape(lambda: jax.random.key(0))
