"""`walt export`: a trained model as safetensors, to share or to keep."""
import argparse
import pathlib
from typing import Any

from walt_jax.builders import config as config_lib
from walt_jax.builders import tokenizers
from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.core import files
from walt_jax.planning import counting
from walt_jax.training import checkpoints


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt export --help`."""
  workdir, out = pathlib.Path(args.workdir), pathlib.Path(args.out)
  config_lib.check_workdirs([args.workdir], allow_code=args.allow_code)
  config = checkpoints.read_config(workdir)
  assert config is not None  # `missing_ok` was not asked for.
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise errors.UserError(
        f'--out {out} exists and is not empty; give a new folder')
  is_tokenizer = config.get('stage') == 'tokenizer'
  if is_tokenizer and args.step is not None:
    raise errors.UserError(
        f'--step {args.step}: {workdir} holds a tokenizer, whose export was '
        'written with its latent statistics at the end of its training; leave '
        'out --step')
  with files.replaced_folder(out) as partial:
    if is_tokenizer:
      _copy_tokenizer(workdir / tokenizers.EXPORT_DIR, partial)
    else:
      _write_denoiser(workdir, args.step, config, partial)
      _copy_tokenizer(workdir / tokenizers.COPY_DIR,
                      partial / tokenizers.COPY_DIR)
  params, written = exports.load_export(out)
  params.pop('statistics', None)
  print(f'{out}: {counting.parameters(params):,} parameters, sha256 '
        f'{files.file_sha256(out / exports.MODEL_FILE)}', flush=True)
  derived = written.get(config_lib.DERIVED, {})
  if 'weights' in derived:
    print(f'{derived["weights"]} of step {derived["step"]}, with its '
          f'tokenizer in {out / tokenizers.COPY_DIR}', flush=True)


def _copy_tokenizer(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies an export of a tokenizer.

  Raises:
    UserError: If there is none.
  """
  if not exports.is_export(source):
    raise errors.UserError(
        f'{source.parent} holds no trained tokenizer (no {source.name}/'
        f'{exports.MODEL_FILE}); `walt train` writes it when it is done')
  exports.copy_export(source, target)


def _write_denoiser(workdir: pathlib.Path, step: int | None,
                    config: dict[str, Any], target: pathlib.Path) -> None:
  """Writes the average of the longest memory, or the parameters without one.

  The export's config is the run's; what was exported is in its section
  `derived`.
  """
  step = checkpoints.latest_step(workdir) if step is None else step
  params = checkpoints.restore_params(workdir, step=step)
  averages = config.get('ema') or ()
  weights = f'ema/{max(averages)}' if averages else 'params'
  derived = config.get(config_lib.DERIVED, {}) | dict(
      step=step, weights=weights)
  exports.save_export(target, params, config | {config_lib.DERIVED: derived})
