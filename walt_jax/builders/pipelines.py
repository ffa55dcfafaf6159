"""Trained work directories -> a pipeline that draws clips."""
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import hashlib
from typing import Any

import jax
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import objectives
from walt_jax.builders import sampling_meshes
from walt_jax.builders import schema
from walt_jax.builders import text_encoders
from walt_jax.builders import tokenizers
from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.data.sources import rates
from walt_jax.models import compute_type
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import stage_sampler
from walt_jax.training import checkpoint_params
from walt_jax.training import workdir as workdir_lib

# Frames a second of clips of a run that does not say what it was trained on.
DEFAULT_FRAME_RATE = 8.0


def load_pipeline(workdirs: Sequence[str], mesh: jax.sharding.Mesh, *,
                  step: int | None = None,
                  low_res_given: bool = False,
                  allow_code: bool = False) -> pipeline_lib.Pipeline:
  """Loads base and super-resolution stages that share one tokenizer.

  Args:
    workdirs: Base first, then each super-resolution stage in order; work
      directories, or what `walt export` wrote of them.
    mesh: Devices to sample on.
    step: Checkpoint of the base; the newest by default, and of the others.
    low_res_given: Whether the first is a super-resolution stage, whose
      low-resolution latents the caller will give.
    allow_code: Whether their configs may name classes to import.

  Raises:
    UserError: On a directory without a checkpoint, stages of different
      tokenizers, or stages that do not follow each other.
  """
  configs = [read_denoiser(workdir, allow_code) for workdir in workdirs]
  platform = mesh_lib.platform(mesh)
  loaded = [
      tokenizers.as_configured(
          tokenizers.load_tokenizer(
              workdir, platform, allow_code=allow_code), config.tokenizer)
      for workdir, config in zip(workdirs, configs, strict=True)]
  for workdir, tokenizer in zip(workdirs, loaded, strict=True):
    if tokenizer.sha256 != loaded[0].sha256:
      raise errors.UserError(
          f'{workdir!r} was trained with another tokenizer '
          f'({tokenizer.sha256[:12]}) than {workdirs[0]!r} '
          f'({loaded[0].sha256[:12]}); train it on the same one')
  _check_latents(workdirs, configs)
  _check_texts(workdirs, configs)
  if not low_res_given:
    _check_base(workdirs[0], configs[0])
  check_chain(workdirs, configs)
  stages = tuple(
      _load_stage(index, workdir, config, mesh,
                  step if index == 0 else None)
      for index, (workdir, config) in enumerate(
          zip(workdirs, configs, strict=True)))
  texts = [c for c in configs if c.text.name]
  rate, origin, trained = _rates(
      configs[0],
      workdir_lib.WorkDir(workdirs[0]).config().get(config_lib.DERIVED, {}))
  return pipeline_lib.Pipeline(
      tokenizer=loaded[0], stages=stages,
      text=text_encoders.text_encoder_of(texts[0]) if texts else None,
      frame_rate=rate, trained_rate=trained, rate_origin=origin,
      mesh=mesh)


def _rates(config: schema.DenoiserExperiment, derived: Mapping[str, Any]
           ) -> tuple[float, str, float | None]:
  """A pipeline's `frame_rate`, `rate_origin` and `trained_rate`.

  Args:
    config: Config of the base.
    derived: What was found when its run was built; older runs lack the rate.
  """
  if derived.get('frame_rate'):
    found = rates.ClipRates(**derived['frame_rate'])
    return found.median, 'run', found.median if found.is_one else None
  known = config.data.frame_rate
  if known:
    return known, 'config', known
  return DEFAULT_FRAME_RATE, 'default', None


def read_denoiser(workdir: str,
                  allow_code: bool) -> schema.DenoiserExperiment:
  """Reads and checks the config of a denoiser.

  Args:
    workdir: Work directory or export.
    allow_code: Whether it may name classes to import.

  Raises:
    UserError: It holds none.
  """
  config = config_lib.read_experiment(workdir, allow_code=allow_code)
  if not isinstance(config, schema.DenoiserExperiment):
    raise errors.UserError(
        f'{workdir!r} holds a tokenizer; give a denoiser to sample from')
  return config


def _check_latents(workdirs: Sequence[str],
                   configs: Sequence[schema.DenoiserExperiment]) -> None:
  """All stages must see latents by the same statistics."""
  first = configs[0].tokenizer.normalise
  for workdir, config in zip(workdirs, configs, strict=True):
    if config.tokenizer.normalise != first:
      raise errors.UserError(
          f'{workdir!r} was trained with tokenizer.normalise='
          f'{config.tokenizer.normalise} and {workdirs[0]!r} with {first}; '
          'give stages that were trained for each other')


def _check_texts(workdirs: Sequence[str],
                 configs: Sequence[schema.DenoiserExperiment]) -> None:
  """Stages that take text must take the same states: they are encoded once."""
  users = [(workdir, config.text) for workdir, config in
           zip(workdirs, configs, strict=True) if config.text.name]
  for workdir, text in users[1:]:
    first, known = users[0]
    for key in ('name', 'width', 'max_tokens'):
      if getattr(text, key) != getattr(known, key):
        raise errors.UserError(
            f'{workdir!r} was trained with text.{key}={getattr(text, key)!r} '
            f'and {first!r} with {getattr(known, key)!r}; give stages that '
            'were trained for each other')


def _check_base(workdir: str, config: schema.DenoiserExperiment) -> None:
  if config.model.low_res_factor:
    raise errors.UserError(
        f'{workdir!r} is a super-resolution stage; give the base first: '
        '--workdir BASE,SR1,SR2')


def check_chain(workdirs: Sequence[str],
                configs: Sequence[schema.DenoiserExperiment]) -> None:
  """Checks that each stage takes the latents of the one before.

  Args:
    workdirs: What the user calls the stages.
    configs: Their configs.

  Raises:
    UserError: If one does not.
  """
  for i, (before, config) in enumerate(
      zip(configs[:-1], configs[1:], strict=True), 1):
    factor = config.model.low_res_factor
    if not factor:
      raise errors.UserError(
          f'{workdirs[i]!r} is a base stage and cannot follow '
          f'{workdirs[i - 1]!r}; only super-resolution stages can')
    made, wanted = before.latents, config.latents
    have = (made.frames, made.height, made.width)
    want = (wanted.frames, wanted.height // factor, wanted.width // factor)
    if have != want:
      raise errors.UserError(
          f'{workdirs[i]!r} takes latents of {want}, but {workdirs[i - 1]!r} '
          f'makes {have}; give stages that were trained for each other')


def _load_stage(index: int, workdir: str, config: schema.DenoiserExperiment,
                mesh, step: int | None) -> pipeline_lib.TrainedStage:
  """Finds a stage's weights and builds what draws with them."""
  found = workdir_lib.WorkDir(workdir)
  derived = found.config()[config_lib.DERIVED]
  sampler = _sampler(config, mesh)
  if found.is_export:
    step, weights = derived['step'], derived['weights']
    params = _params(sampler, lambda: _read_export(workdir, mesh))
  else:
    step = int(found.checkpoint(step).name)
    weights = found.weights()
    params = _checkpoint_params(sampler, workdir, mesh, step)
  return _stage(
      index, workdir, config, sampler, step=step, weights=weights,
      params=params, classes=derived['classes'])


def _sampler(config: schema.DenoiserExperiment, mesh: jax.sharding.Mesh
             ) -> stage_sampler.StageSampler:
  """What draws a stage's latents on these devices."""
  objective = objectives.objective(config, mesh_lib.platform(mesh))
  sampling_meshes.check_context(config, objective.denoiser, mesh)
  return objectives.stage_sampler_of(objective, config)


def _params(sampler: stage_sampler.StageSampler, restore: Callable[[], Any]
            ) -> pipeline_lib.StageParams:
  """Parameters that serve this sampler alone, in the types it computes in."""
  return pipeline_lib.StageParams(
      restore, params_sha256,
      functools.partial(compute_type.cast_in_turns, sampler.denoiser))


def _checkpoint_params(
    sampler: stage_sampler.StageSampler, workdir: str,
    mesh: jax.sharding.Mesh, step: int) -> pipeline_lib.StageParams:
  """The parameters of a checkpoint, read when they are needed."""
  return _params(sampler, lambda: checkpoint_params.restore_params(
      workdir, step=step, mesh=mesh, rules=rules.DENOISER_RULES))


def at_step(pipeline: pipeline_lib.Pipeline, mesh: jax.sharding.Mesh,
            step: int) -> pipeline_lib.Pipeline:
  """A pipeline with the weights of another checkpoint of its base.

  Its programs are those of the first, so that nothing is compiled again; the
  first one's weights of the base are released.

  Args:
    pipeline: What `load_pipeline` returned for a work directory.
    mesh: Its devices.
    step: The checkpoint.

  Raises:
    UserError: There is no such checkpoint.
  """
  base = pipeline.stages[0]
  workdir_lib.WorkDir(base.workdir).checkpoint(step)
  base.params.release()
  return pipeline.with_base(dataclasses.replace(
      base, step=step, params=_checkpoint_params(
          base.sampler, base.workdir, mesh, step)))


def _stage(index: int, workdir: str, config: schema.DenoiserExperiment,
           sampler: stage_sampler.StageSampler, *, step: int, weights: str,
           params: pipeline_lib.StageParams, classes: Sequence[str]
           ) -> pipeline_lib.TrainedStage:
  """Builds what draws with a stage's weights, wherever these are."""
  return pipeline_lib.TrainedStage(
      name='base' if index == 0 else f'sr{index}', workdir=str(workdir),
      step=step, weights=weights, sampler=sampler, params=params,
      classes=tuple(classes) if config.model.num_classes else (),
      uses_text=bool(config.text.name),
      frame_lengths=objectives.frame_lengths(config),
      can_factorize=objectives.can_factorize(config),
      defaults=objectives.stage_settings(config),
      most_noise=objectives.most_noise(config),
      never_without=frozenset(
          name for name, is_left_out in
          objectives.learnt_conditions(config).items() if not is_left_out))


def pipeline_in_training(
    config: schema.DenoiserExperiment, workdir: str, mesh: jax.sharding.Mesh,
    classes: Sequence[str], params: Callable[[], Any]
    ) -> pipeline_lib.Pipeline:
  """A pipeline around a base that is still in training.

  Args:
    config: Its config.
    workdir: Holds a copy of its tokenizer.
    mesh: Devices to sample on.
    classes: Names by label id.
    params: Returns its parameters of the moment, on the devices; called again
      whenever they have been released.
  """
  stage = _stage(0, workdir, config, _sampler(config, mesh), step=0,
                 weights='in training', classes=classes,
                 params=pipeline_lib.StageParams(params, lambda _: ''))
  rate, origin, trained = _rates(config, {})
  return pipeline_lib.Pipeline(
      tokenizer=tokenizers.as_configured(
          tokenizers.load_tokenizer(
              workdir, mesh_lib.platform(mesh),
              allow_code=True),  # The run has imported it already.
          config.tokenizer),
      stages=(stage,), text=text_encoders.text_encoder_of(config),
      frame_rate=rate, trained_rate=trained, rate_origin=origin,
      mesh=mesh)


def _read_export(workdir: str, mesh):
  """The parameters of a `walt export`, on the devices."""
  params, _ = exports.load_export(workdir)
  return jax.device_put(
      params, rules.tree_shardings(params, mesh, rules.DENOISER_RULES))


def params_sha256(params) -> str:
  """Hash of parameters, whatever the mesh they lie on."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    digest.update(jax.tree_util.keystr(path).encode())
    digest.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
  return digest.hexdigest()
