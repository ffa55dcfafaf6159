"""`walt train`: trains the stage that a config describes, or resumes it."""
import argparse
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import sys
import time
from typing import Any

import jax
import numpy as np

from walt_jax.builders import attention_forms
from walt_jax.builders import config as config_lib
from walt_jax.builders import data_hints
from walt_jax.builders import denoiser_runs
from walt_jax.builders import meshes
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.builders import tokenizer_runs
from walt_jax.builders import training_run
from walt_jax.core import errors
from walt_jax.core import lease
from walt_jax.core import paths
from walt_jax.core import profile_request
from walt_jax.core import run_files
from walt_jax.evaluation import training
from walt_jax.parallel import compiler_options
from walt_jax.parallel import cuts
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules as partition
from walt_jax.parallel import session
from walt_jax.planning import peaks
from walt_jax.planning import summary
from walt_jax.training import checkpoints as checkpoints_lib
from walt_jax.training import denoiser_eval
from walt_jax.training import logging as logging_lib
from walt_jax.training import loop
from walt_jax.training import meter
from walt_jax.training import replay
from walt_jax.training import replay_bundles
from walt_jax.training import resuming
from walt_jax.training import retention
from walt_jax.training import state as train_state
from walt_jax.training import tokenizer_eval
from walt_jax.training import workdir as workdir_lib

# FLOPs of a step. Our small configs take up to 3e10, the paper's from 7e14.
_MOST_ON_A_CPU = 10**13
_INSTALL = "pip install -e '.[tpu]', '.[cuda12]' or '.[cuda13]'"


def run(args: argparse.Namespace) -> None:
  """Trains or replays in this process; see `walt train --help`."""
  if args.replay:
    _replay(args)
  else:
    _train(args)


def _train(args: argparse.Namespace) -> None:
  began = time.time()
  config = config_lib.load(args.config, args.overrides)
  experiment = schema.of(config)
  workdir = paths.path(args.workdir)
  if workdir.exists() and not workdir.is_dir():
    raise errors.UserError(
        f'--workdir {args.workdir} is a file; give a directory')
  found = workdir_lib.WorkDir(workdir)
  wanted = schema.with_defaults(config_lib.to_dict(config))
  if (found.config_file.exists() and not args.restart
      and not found.begins_anew()):
    # Before anything is built: the plainest mistake has the quickest answer.
    resuming.check_resume(
        {name: value for name, value in config_lib.saved(found).items()
         if name != config_lib.DERIVED}, wanted)
    found.check_begun()
  else:
    _check_new(experiment)
  _check_profile(args.profile, experiment.train.num_steps)
  data_hints.reach(experiment)
  data_hints.check_present(experiment)
  metrics = training.metrics(experiment)
  if experiment.train.best_metric:
    training.check_best(experiment, metrics, _scores(experiment))
  options = dataclasses.replace(
      _loop_options(experiment), profile=args.profile,
      max_failures=args.max_failures, began=began)
  meshes.check_training(experiment)
  mesh = meshes.mesh_of(experiment)
  if isinstance(experiment, schema.DenoiserExperiment):
    denoiser_runs.check_tokenizer(experiment, args.workdir)
  flops = summary.step_flops(experiment)
  _check_platform(experiment, mesh, flops, args.allow_cpu)
  session.say('train', mesh)
  with _owned(found, args.restart) as check_owner:
    _run(args, experiment, wanted, mesh, metrics, options, flops, check_owner)


@contextlib.contextmanager
def _owned(found: workdir_lib.WorkDir, restart: bool
           ) -> Iterator[Callable[..., None]]:
  """Holds the work directory's lease; moves a run in it aside if asked.

  Args:
    found: The work directory.
    restart: Whether to begin again.

  Yields:
    What raises once another run has taken the directory over.

  Raises:
    UserError: In every process, where another run is alive.
  """
  refusal, held = '', None
  if multihost.is_main():
    try:
      held = lease.take(
          found.path / run_files.LEASE, f'--workdir {found.path}',
          lambda line: print(f'walt: {line}', file=sys.stderr, flush=True))
      aside = found.set_aside() if restart else None
      if aside is not None:
        print(f'moved what the run before has left to {aside}', flush=True)
    except errors.UserError as error:
      refusal = str(error)
  try:
    refusal = multihost.of_main(refusal)
    if refusal:
      raise errors.UserError(refusal)
    yield held.check if held else lambda *, now: None
  finally:
    if held is not None:
      held.release()


def _run(args: argparse.Namespace, experiment: schema.Experiment,
         wanted: dict[str, Any], mesh: jax.sharding.Mesh, metrics: Any,
         options: loop.LoopOptions, flops: Callable[[int], int] | None,
         check_owner: Callable[..., None]) -> None:
  """Builds the run and trains, once the work directory is this run's."""
  built = _build(experiment, args.workdir, mesh, args.allow_code)
  checkpoints = checkpoints_lib.Checkpoints(
      args.workdir, wanted | {config_lib.DERIVED: built.derived},
      keep=_keep(experiment.train), version=schema.VERSION,
      complete=config_lib.saved, check_owner=check_owner)
  evaluators = [_of_average(evaluator, experiment.stage)
                for evaluator in training.evaluators(
                    metrics, experiment, args.workdir, mesh,
                    tuple(built.derived['classes']))]
  writer = (
      logging_lib.Writer(args.workdir, writers=experiment.train.writers,
                         config=checkpoints.config)
      if multihost.is_main() else logging_lib.NullWriter())
  if multihost.is_main():
    platform = mesh_lib.platform(mesh)
    told = [attention_forms.words(experiment, platform),
            f'compiler options {compiler_options.words(platform)}']
    if mesh.size > 1:
      state = jax.eval_shape(built.stage.init, jax.random.key(0))
      told.append(cuts.cut(state, mesh.shape, built.stage.rules).words)
    print(f'{experiment.stage}: {"; ".join(filter(None, told))}', flush=True)
  state = loop.run(
      built.stage, built.batches, mesh, options, checkpoints, writer,
      evaluators, meter.Work(
          flops, peaks.num_chips(mesh),
          peaks.peak_flops(np.asarray(mesh.devices).flat[0])))
  built.finish(state)
  if multihost.is_main():
    print(f'{experiment.stage}: step {int(jax.device_get(state.step))} saved '
          f'in {paths.path(args.workdir)}', flush=True)


def _check_new(config: schema.Experiment) -> None:
  """Refuses keys that say nothing, in a new run; old ones may have them."""
  if not isinstance(config, schema.DenoiserExperiment) or config.text.name:
    return
  for key in ('max_tokens', 'width', 'path'):
    if value := getattr(config.text, key):
      raise errors.UserError(
          f"config key text.{key} is {value!r}, but text.name is '': the model "
          "reads no text; name an encoder, 'minilm' or 't5', or leave "
          f'text.{key} at {0 if key != "path" else "its default"}')


def _check_platform(config: schema.Experiment, mesh: jax.sharding.Mesh,
                    flops: Callable[[int], int] | None,
                    allowed: bool) -> None:
  """Refuses to begin on a CPU what would take minutes a step there.

  It is most often a machine whose accelerator was not found.
  """
  if (allowed or flops is None or mesh_lib.platform(mesh) != 'cpu'
      or not config.train.num_steps or flops(0) <= _MOST_ON_A_CPU):
    return
  raise errors.UserError(
      f'a step of this config takes {flops(0):.2g} FLOPs, minutes on a CPU, '
      f'and JAX finds no accelerator here; install for one ({_INSTALL}), or '
      'train on the CPU all the same with --allow_cpu')


def _of_average(evaluator: training.Evaluator,
                stage: str) -> loop.Evaluator:
  """Lets a function of averaged parameters take the whole state."""
  def evaluate(state, step):
    params = (tokenizer_eval.best_params(state) if stage == 'tokenizer' else
              train_state.averaged(state.ema, state.params))
    return evaluator(params, step)

  return evaluate


def _replay(args: argparse.Namespace) -> None:
  """Takes the step of a bundle again and says what it gave.

  Raises:
    UserError: If the step does not fail this time.
  """
  for name in ('config', 'profile'):
    if getattr(args, name):
      raise errors.UserError(
          f'--{name} does not go with --replay, which has the config of its '
          'run; set single keys with --config.KEY=VALUE')
  failure = replay_bundles.read_failure(args.replay)
  config = config_lib.from_dict(
      {k: v for k, v in failure.config.items() if k != config_lib.DERIVED},
      args.replay, allow_code=args.allow_code)
  config_lib.override(config, args.overrides)
  experiment = schema.of(config)
  mesh = meshes.mesh_of(experiment)
  # WORKDIR/replay/step_N.
  workdir = args.workdir or paths.absolute(args.replay).parents[1]
  built = _build(experiment, str(workdir), mesh, args.allow_code)
  with partition.activate(mesh):
    outcome = replay.replay(args.replay, built.stage, built.batches, mesh)
  name = f'step {failure.step + 1} of {experiment.stage}, batch {failure.batch}'
  if multihost.is_main():
    for metric, value in outcome.metrics.items():
      print(f'  {metric}: {value!r} (then {outcome.recorded.get(metric)!r})')
    if outcome.bad_inputs:
      print(f'  not finite in the batch: {", ".join(outcome.bad_inputs)}')
  if not outcome.failed:
    raise errors.UserError(
        f'{name} is finite here, but was not when it was saved '
        f'({failure.culprits}); replay on the devices and versions of the run')
  if multihost.is_main():
    print(f'{name}: fails again, '
          f'{"all metrics equal" if outcome.equal else "other metrics"}',
          flush=True)


def _build(config: schema.Experiment, workdir: str,
           mesh: jax.sharding.Mesh, allow_code: bool) -> training_run.Run:
  if isinstance(config, schema.TokenizerExperiment):
    return tokenizer_runs.tokenizer_run(config, workdir, mesh)
  assert isinstance(config, schema.DenoiserExperiment)
  return denoiser_runs.denoiser_run(
      config, workdir, mesh, allow_code=allow_code)


def _check_profile(profile: profile_request.Request | None,
                   num_steps: int) -> None:
  """Refuses a trace that would never be written."""
  if profile is None:
    return
  if profile.process >= jax.process_count():
    raise errors.UserError(
        f'--profile: there is no process {profile.process} of '
        f'{jax.process_count()}; they count from 0')
  if profile.first >= num_steps:
    raise errors.UserError(
        f'--profile begins at step {profile.first}, but the run ends after '
        f'train.num_steps={num_steps}; give earlier steps')


def _keep(train: schema.Train) -> retention.Keep:
  return retention.Keep(
      newest=train.keep_newest, every=train.keep_every, best=train.keep_best,
      metric=train.best_metric, mode=train.best_mode)


def _scores(config: schema.Experiment) -> set[str]:
  """Names of the scores that a stage gives by itself."""
  if isinstance(config, schema.DenoiserExperiment):
    return denoiser_eval.names(
        objectives.objective(config, 'cpu').predicts_frames)
  return tokenizer_eval.names(
      videos=config.data.image_rows < config.data.batch_size,
      images=config.data.image_rows > 0)


def _loop_options(config: schema.Experiment) -> loop.LoopOptions:
  """The part of `train` that the loop itself reads."""
  train = config.train
  try:
    return loop.LoopOptions(
        num_steps=train.num_steps, log_every=train.log_every,
        save_every=train.save_every, save_seconds=train.save_seconds,
        eval_every=train.eval_every, seed=config.seed)
  except ValueError as e:
    raise errors.UserError(f'config section train: {e}') from e
