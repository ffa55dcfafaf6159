"""`walt evaluate`: scores clips and writes one JSON result."""
import argparse
from collections.abc import Callable, Mapping
import contextlib
import pathlib
import sys
from typing import Any
import warnings

from walt_jax.builders import config as config_lib
from walt_jax.commands import requests
from walt_jax.commands.flags import outputs
from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.evaluation import catalog
from walt_jax.evaluation import follow
from walt_jax.evaluation import inputs
from walt_jax.evaluation import results
from walt_jax.metrics import protocols
from walt_jax.parallel import multihost
from walt_jax.parallel import session
from walt_jax.training import logging as logging_lib
from walt_jax.training import workdir as workdir_lib


def run(args: argparse.Namespace) -> None:
  """Runs `walt evaluate METRIC` and writes its result to `args.json`."""
  if args.metric == 'compare':
    _finish(results.compare(*args.files), args)
    return
  config_lib.check_workdirs(_begun(args), allow_code=args.allow_code)
  protocols.get(args.protocol)
  with warnings.catch_warnings():
    warnings.simplefilter('always')
    warnings.showwarning = _shown_once()
    result = _evaluate(args)
  if multihost.is_main():
    _finish(result, args)


def _begun(args: argparse.Namespace) -> list[str]:
  """The work directories that must be there; a run to follow may begin later.
  """
  workdirs = list(args.workdir or ())
  if getattr(args, 'follow', False) and workdirs and not (
      workdir_lib.WorkDir(workdirs[0]).config_file.is_file()):
    return workdirs[1:]
  return workdirs


def _finish(result: dict[str, Any], args: argparse.Namespace) -> None:
  """Writes and prints a result."""
  if args.json:
    results.write(args.json, result | outputs.made_by(args).entry())
  _print(result)


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
  """Scores clips, a checkpoint, or all checkpoints to come."""
  metric = catalog.find(args.metric, 'METRIC')
  request = requests.evaluation_request(args)
  session.say(f'evaluate {request.metric}')
  if not getattr(args, 'follow', False):
    return catalog.evaluate(metric, inputs.Inputs(request))
  if not request.workdirs:
    raise errors.UserError('--follow needs the --workdir of a training run')
  return follow.follow(metric, request, poll=args.poll,
                       write_scalars=_write_scalars)


def _write_scalars(workdir: pathlib.Path, step: int,
                   scalars: Mapping[str, float]) -> None:
  """Adds scores to the metrics of a training run.

  In a bucket two writers of one file would lose each other's lines: there the
  run alone writes its metrics, and a score is a file of `evaluation/`.
  """
  if paths.is_remote(workdir):
    return
  with contextlib.closing(logging_lib.Writer(workdir)) as writer:
    writer.write_scalars(step, scalars)


def _shown_once() -> Callable[..., None]:
  """Prints warnings; what each checkpoint would repeat, once."""
  said: set[str] = set()

  def show(message, category, filename, lineno, file=None, line=None):
    del category, filename, lineno, file, line
    if str(message) not in said and multihost.is_main():
      said.add(str(message))
      print(f'walt: warning: {message}', file=sys.stderr)

  return show


def _print(result: dict[str, Any]):
  numbers = {name: value for name, value in result.items()
             if isinstance(value, float)}
  shares = [f'{name} {100 * value["accuracy"]:.1f}% of {value["total"]} '
            f'(95% interval {100 * value["low"]:.1f} to '
            f'{100 * value["high"]:.1f})'
            for name, value in result.items()
            if isinstance(value, dict) and 'accuracy' in value]
  print(result['metric'], ', '.join(shares) if shares else ' '.join(
      f'{name} {value:.4g}' for name, value in numbers.items()))
