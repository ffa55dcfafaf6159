"""`walt export`: a trained model as safetensors, to share or to keep."""
import argparse
import pathlib
from typing import Any

from walt_jax.builders import config as config_lib
from walt_jax.commands.flags import outputs
from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.planning import counting
from walt_jax.training import checkpoint_params
from walt_jax.training import workdir as workdir_lib


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt export --help`."""
  workdir = workdir_lib.WorkDir(args.workdir)
  out = paths.path(args.out)
  config_lib.check_workdirs([args.workdir], allow_code=args.allow_code)
  config = workdir.config()
  is_tokenizer = config.get('stage') == 'tokenizer'
  if is_tokenizer and args.step is not None:
    raise errors.UserError(
        f'--step {args.step}: {workdir.path} holds a tokenizer, whose export '
        'was written with its latent statistics at the end of its training; '
        'leave out --step')
  tokenizer = workdir.tokenizer()
  exports.load_export(tokenizer)  # Refuses a damaged one.
  with files.replaced_folder(out) as partial:
    if is_tokenizer:
      exports.copy_export(tokenizer, partial)
    else:
      _write_denoiser(workdir, args.step, config, partial)
      exports.copy_export(tokenizer, partial / run_files.TOKENIZER)
    outputs.made_by(args).into_folder(partial)
  params, written = exports.load_export(out)
  params.pop('statistics', None)
  print(f'{out}: {counting.parameters(params):,} parameters, sha256 '
        f'{files.file_sha256(out / exports.MODEL_FILE)}', flush=True)
  derived = written.get(config_lib.DERIVED, {})
  if 'weights' in derived:
    print(f'{derived["weights"]} of step {derived["step"]}, with its '
          f'tokenizer in {out / run_files.TOKENIZER}', flush=True)


def _write_denoiser(workdir: workdir_lib.WorkDir, step: int | None,
                    config: dict[str, Any], target: pathlib.Path) -> None:
  """Writes the average of the longest memory, or the parameters without one.

  The export's config is the run's; what was exported is in its section
  `derived`.
  """
  step = int(workdir.checkpoint(step).name)
  params = checkpoint_params.restore_params(workdir.path, step=step)
  derived = config.get(config_lib.DERIVED, {}) | dict(
      step=step, weights=workdir.weights())
  exports.save_export(target, params, config | {config_lib.DERIVED: derived})
