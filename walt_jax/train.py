"""`walt train`: trains the stage that a config describes, or resumes it."""
import argparse
import pathlib

import jax

from walt_jax import errors
from walt_jax.builders import config as config_lib
from walt_jax.builders import denoiser_runs
from walt_jax.builders import runs
from walt_jax.builders import tokenizer_runs
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.training import checkpoints as checkpoints_lib
from walt_jax.training import logging as logging_lib
from walt_jax.training import loop

_BUILDERS = {
    'tokenizer': tokenizer_runs.tokenizer_run,
    'denoiser': denoiser_runs.denoiser_run,
    'super_resolution': denoiser_runs.denoiser_run,
}


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt train --help`."""
  config = config_lib.load(args.config, args.overrides)
  if config.stage not in _BUILDERS:
    raise errors.UserError(
        f'config key stage is {config.stage!r}; choose one of '
        f'{", ".join(_BUILDERS)}')
  workdir = pathlib.Path(args.workdir)
  if workdir.exists() and not workdir.is_dir():
    raise errors.UserError(
        f'--workdir {args.workdir} is a file; give a directory')
  saved = checkpoints_lib.read_config(args.workdir, missing_ok=True)
  wanted = config_lib.to_dict(config)
  if saved is not None:
    # Before anything is built: the plainest mistake has the quickest answer.
    checkpoints_lib.check_resume(
        {k: v for k, v in saved.items() if k != config_lib.DERIVED}, wanted)
  options = _loop_options(config, args.profile)
  mesh = mesh_lib.make_mesh(**config.mesh)
  built: runs.Run = _BUILDERS[config.stage](config, args.workdir, mesh)
  checkpoints = checkpoints_lib.Checkpoints(
      args.workdir, wanted | {config_lib.DERIVED: built.derived})
  writer = (logging_lib.Writer(args.workdir) if multihost.is_main()
            else logging_lib.NullWriter())
  state = loop.run(
      built.stage, built.batches, mesh, options, checkpoints, writer)
  built.finish(state)
  if multihost.is_main():
    print(f'{config.stage}: step {int(jax.device_get(state.step))} saved in '
          f'{pathlib.Path(args.workdir)}', flush=True)


def _loop_options(config, profile: tuple[int, int] | None
                  ) -> loop.LoopOptions:
  """The part of `train` that the loop itself reads."""
  config_lib.check_keys(
      config.train, {'num_steps', 'log_every', 'save_every', 'eval_every',
                     'eval_batches', 'eval_samples'}, 'train')
  first, last = profile or (None, 0)
  try:
    return loop.LoopOptions(
        num_steps=config.train.num_steps, log_every=config.train.log_every,
        save_every=config.train.save_every,
        eval_every=config.train.eval_every, seed=config.seed,
        profile_start=first,
        profile_steps=last - first if profile else 5)
  except ValueError as e:
    raise errors.UserError(f'config section train: {e}') from e
