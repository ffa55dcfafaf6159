"""`walt evaluate`: scores clips and writes one JSON result."""
import argparse
from collections.abc import Callable
import os
import pathlib
import sys
from typing import Any
import warnings

from walt_jax.builders import config as config_lib
from walt_jax.core import errors
from walt_jax.evaluation import checkpoint
from walt_jax.evaluation import control
from walt_jax.evaluation import follow
from walt_jax.evaluation import reconstruct
from walt_jax.evaluation import results
from walt_jax.evaluation import sets
from walt_jax.metrics import protocols
from walt_jax.parallel import multihost


def run(args: argparse.Namespace) -> None:
  """Runs `walt evaluate METRIC` and writes its result to `args.json`."""
  if args.metric == 'compare':
    _finish(results.compare(*args.files), args.json)
    return
  config_lib.check_workdirs(args.workdir or ())
  protocols.get(args.protocol)
  if args.json:
    _check_writable(args.json)
  with warnings.catch_warnings():
    warnings.simplefilter('always')
    warnings.showwarning = _show_warning
    result = _METRICS[args.metric](args)
  if multihost.is_main():
    _finish(result, args.json)


def _finish(result: dict[str, Any], path: str | None) -> None:
  """Writes and prints a result."""
  if path:
    results.write(path, result)
  _print(result)


def _scores(args: argparse.Namespace) -> dict[str, Any]:
  """FVD, FID or IS: of sets, of a checkpoint, or of all to come."""
  if not args.workdir:
    if args.follow:
      raise errors.UserError('--follow needs the --workdir of a training run')
    return sets.score(args)
  if args.follow:
    return follow.follow(args)
  return checkpoint.score(args)


_METRICS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    'fvd': _scores, 'fid': _scores, 'is': _scores,
    'reconstruction': reconstruct.score, 'control': control.score}


def _check_writable(path: str):
  folder = pathlib.Path(path).resolve().parent
  if not folder.is_dir() or not os.access(folder, os.W_OK):
    raise errors.UserError(
        f'cannot write --json {path}: no such folder, or not writable')


def _show_warning(message, category, filename, lineno, file=None, line=None):
  del category, filename, lineno, file, line
  print(f'walt: warning: {message}', file=sys.stderr)


def _print(result: dict[str, Any]):
  numbers = {name: value for name, value in result.items()
             if isinstance(value, float)}
  print(result['metric'], ' '.join(
      f'{name} {value:.4g}' for name, value in numbers.items()))
