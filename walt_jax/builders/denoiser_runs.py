"""The run of a denoiser config, base or super-resolution."""
from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from walt_jax.builders import datasets
from walt_jax.builders import networks
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.builders import text_encoders
from walt_jax.builders import tokenizers
from walt_jax.builders import training_run
from walt_jax.builders import warm_start
from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.core import scratch
from walt_jax.core import types
from walt_jax.parallel import distributed
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules
from walt_jax.text import limits
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.training import denoiser_eval
from walt_jax.training import denoiser_step
from walt_jax.training import encode as encode_lib
from walt_jax.training import optimizers
from walt_jax.training import stage as stage_lib
from walt_jax.training import state as train_state
from walt_jax.training import workdir as workdir_lib

_NO_TOKENIZER = (
    'config key tokenizer.workdir is empty; give the work directory of a '
    'trained tokenizer: --config.tokenizer.workdir=DIR')


def denoiser_run(config: schema.DenoiserExperiment, workdir: str,
                 mesh: jax.sharding.Mesh, *, allow_code: bool = False
                 ) -> training_run.Run:
  """Builds the run of a `denoiser` or `super_resolution` config.

  Args:
    config: Every section is read.
    workdir: Gets a copy of the tokenizer.
    mesh: Devices to train on.
    allow_code: Whether the tokenizer's config may name a class to import.

  Raises:
    UserError: On anything in the config that does not fit; nothing is then
      written.
  """
  with scratch.folder('tokenizer') as folder:
    source = _tokenizer_source(config, workdir, str(folder))
    tokenizer = tokenizers.as_configured(
        tokenizers.load_tokenizer(
            source, mesh_lib.platform(mesh),
            allow_code=allow_code or source == str(folder)),  # As it was typed.
        config.tokenizer)
    run = _build(config, mesh, tokenizer)
    if multihost.is_main():
      tokenizers.copy_tokenizer(source, workdir)
    # Then the source may go, and the copy is there for everybody.
    distributed.barrier('tokenizer copied')
  return run


def _build(config: schema.DenoiserExperiment, mesh: jax.sharding.Mesh,
           tokenizer: inference.Tokenizer) -> training_run.Run:
  """Builds the run around its tokenizer; writes nothing."""
  check_latents(config, tokenizer.module)
  num_shards = mesh_lib.num_batch_shards(mesh)
  objective, bare, create, shapes = bare_stage(
      config, mesh_lib.platform(mesh), num_shards,
      mesh_lib.slow_axis(mesh, config.mesh.slices))
  text = text_encoders.text_encoder_of(config)
  open_split = functools.partial(
      datasets.source, config, tokenizer_sha256=tokenizer.sha256,
      text_sha256=text.sha256 if text else None)
  train, held_out = open_split(datasets.TRAIN), open_split(datasets.HELD_OUT)
  datasets.check_classes(config, train.classes)
  clip_rates = datasets.clip_rates(config, train)
  tokenize = limits.CountingTokenizer(text.tokenizer) if text else None
  encode = encode_lib.LatentEncoder(
      tokenizer=networks.encoding(
          tokenizer.module, mesh_lib.platform(mesh)),
      encode_text=text.encode if text else None,
      low_res_factor=objective.denoiser.low_res_factor,
      num_shards=num_shards, rows_at_once=config.tokenizer.encode_rows)
  frozen = dict(tokenizer=tokenizer.frozen)
  if text:
    frozen['text'] = text.params
  drawing = objectives.stage_settings(config)
  stage = dataclasses.replace(
      bare, encode=encode,
      evaluate=denoiser_eval.DenoiserEvaluation(
          objective, encode, tokenizer.module,
          objectives.stage_sampler_of(objective, config).make(
              drawing.options, drawing.guidance),
          [multihost.global_batch(batch, mesh) for batch in
           datasets.held_out_batches(config, mesh, held_out, tokenize)],
          mesh_lib.replicated(mesh), classes=train.classes,
          num_samples=config.train.eval_samples),
      frozen=frozen, frozen_rules=rules.FROZEN_RULES,
      warm_start=warm_start.denoiser_warm_start(
          config.init_from, shapes, create))
  return training_run.Run(
      stage, datasets.train_batches(config, mesh, train, tokenize),
      dict(classes=list(train.classes), tokenizer_sha256=tokenizer.sha256,
           frame_rate=clip_rates and dataclasses.asdict(clip_rates)))


class BareStage(NamedTuple):
  """What a denoiser trains with, before encoders, data and evaluation.

  Attributes:
    objective: The denoiser and its loss.
    stage: Takes latents: it has no `encode`.
    create: `create(params) -> TrainState` at step 0.
    shapes: Shapes of the parameters.
  """
  objective: denoiser_step.DenoiserObjective
  stage: stage_lib.Stage
  create: Callable[[Any], train_state.TrainState]
  shapes: Any


def bare_stage(config: schema.DenoiserExperiment, platform: str,
               num_shards: int = 1, apart: str | None = None) -> BareStage:
  """Builds the part of a run that needs neither files nor devices.

  Args:
    config: Every section but those of data and tokenizer is read.
    platform: Decides the forms of layers.
    num_shards: Shards of the batch.
    apart: Axis of the mesh over which gradients are reduced once a step.

  Raises:
    UserError: On anything in the config that does not fit.
  """
  objective = objectives.objective(config, platform, num_shards)
  optimizer = optimizers.make_optimizer(
      config.optimizer, rules.DENOISER_RULES)
  init_params = denoiser_step.make_init(objective, example_latents(config))
  create = functools.partial(
      train_state.create, optimizer=optimizer, ema_decays=config.ema)
  stage = stage_lib.Stage(
      name=config.stage, init=lambda key: create(init_params(key)),
      train_step=denoiser_step.make_train_step(
          objective, optimizer, config.optimizer.accumulation_steps, apart),
      rules=rules.DENOISER_RULES)
  return BareStage(
      objective, stage, create, training_run.check_shapes(init_params))


def latents_wanted(config: schema.DenoiserExperiment) -> tuple[int, ...]:
  """The shape of a row's latents that a config is made for."""
  latents = config.latents
  return latents.frames, latents.height, latents.width, latents.channels


def latents_of(config: schema.DenoiserExperiment,
               tokenizer: autoencoder.Autoencoder) -> tuple[int, ...] | None:
  """The shape that a tokenizer makes of a config's clips; None of misfits."""
  data = config.data
  try:
    return tokenizer.latent_shape(
        (1, data.num_frames, data.height, data.width, 3))[1:]
  except ValueError:
    return None


def check_latents(config: schema.DenoiserExperiment,
                  tokenizer: autoencoder.Autoencoder) -> None:
  """Checks that a tokenizer makes the config's latents of its clips.

  Raises:
    UserError: If it does not.
  """
  data = config.data
  try:
    shape = tokenizer.latent_shape(
        (1, data.num_frames, data.height, data.width, 3))[1:]
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e
  wanted = latents_wanted(config)
  if shape != wanted:
    raise errors.UserError(
        f'config section latents is {wanted}, but the tokenizer makes {shape} '
        f'of {data.num_frames} x {data.height} x {data.width} pixels; set '
        'latents to that, or give another tokenizer')


def example_latents(config: schema.DenoiserExperiment) -> types.LatentBatch:
  """Shapes of one row, for initialisation."""
  latents, text = config.latents, config.text
  shape = (1, latents.frames, latents.height, latents.width, latents.channels)
  factor = config.model.low_res_factor
  frames = latents.frames if config.data.image_rows else 1
  struct = jax.ShapeDtypeStruct
  low = (1, latents.frames, latents.height // max(factor, 1),
         latents.width // max(factor, 1), latents.channels)
  return types.LatentBatch(
      latents=struct(shape, jnp.float32), is_image=struct((1,), jnp.bool_),
      label=struct((1, frames), jnp.int32),
      text=(struct((1, frames, text.max_tokens, text.width), jnp.float32)
            if text.name else None),
      text_mask=(struct((1, frames, text.max_tokens), jnp.bool_)
                 if text.name else None),
      low_res=struct(low, jnp.float32) if factor else None,
      own={own.column: struct((1, frames, *own.shape), jnp.float32)
           for own in networks.own_conditions(config.model.conditions)} or None)


def _tokenizer_source(config: schema.DenoiserExperiment, workdir: str,
                      folder: str) -> str:
  """Where the tokenizer is: as given, already in `workdir`, or a random one.

  Args:
    config: Config whose `tokenizer` section is read.
    workdir: Work directory of the run.
    folder: Gets the random tokenizer of a new run.
  """
  section = config.tokenizer
  if section.workdir:
    return section.workdir
  if (paths.path(workdir) / run_files.TOKENIZER).is_dir():
    return workdir
  if section.random:
    tokenizers.save_random_tokenizer(
        section.random, folder, datasets.some_pixels(config))
    return folder
  raise errors.UserError(_NO_TOKENIZER)


def check_tokenizer(config: schema.DenoiserExperiment, workdir: str) -> None:
  """Refuses a config without a tokenizer, before anything is built.

  Raises:
    UserError: None is named, or what is named holds none.
  """
  if config.tokenizer.workdir:
    workdir_lib.WorkDir(config.tokenizer.workdir).tokenizer()
  elif not config.tokenizer.random and not (
      paths.path(workdir) / run_files.TOKENIZER).is_dir():
    raise errors.UserError(_NO_TOKENIZER)
