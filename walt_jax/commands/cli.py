"""The `walt` command: flags in, one call of an entry point out.

Nothing heavy is imported before a sub-command is chosen. How a command ends,
`core/exit_codes.py` says: what a user can fix, and an interruption, with one
line on standard error.
"""
import argparse
from collections.abc import Callable, Sequence
import importlib
import os
import sys
import traceback
from typing import NoReturn

import walt_jax
from walt_jax.commands.flags import data
from walt_jax.commands.flags import demo
from walt_jax.commands.flags import evaluate
from walt_jax.commands.flags import export
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import outputs
from walt_jax.commands.flags import plan
from walt_jax.commands.flags import report
from walt_jax.commands.flags import sample
from walt_jax.commands.flags import show_config
from walt_jax.commands.flags import train
from walt_jax.core import disk
from walt_jax.core import errors
from walt_jax.core import exit_codes
from walt_jax.core import host_memory
from walt_jax.core import interrupts
from walt_jax.core import paths
from walt_jax.core import program_cache
from walt_jax.core import supervised

_OVERRIDE_PREFIX = '--config.'
_COMPILING = ('train', 'sample', 'demo', 'evaluate', 'data')


class _Parser(argparse.ArgumentParser):
  """Reports errors as exceptions; knows no abbreviated flags."""

  def __init__(self, *args, **kwargs):
    kwargs.setdefault('allow_abbrev', False)
    super().__init__(*args, **kwargs)

  def error(self, message: str) -> NoReturn:
    raise errors.UserError(f'{message} (see {self.prog} --help)')


def make_parser(own_metric: str | None = None) -> argparse.ArgumentParser:
  """Builds the parser of the whole command line.

  Args:
    own_metric: `module:Class` of a metric of the user's own, or None.
  """
  parser = _Parser(prog='walt', description=walt_jax.__doc__.splitlines()[0])
  parser.add_argument('--version', action='version',
                      version=f'walt {walt_jax.__version__}')
  parser.set_defaults(takes_overrides=False)
  commands = parser.add_subparsers(dest='command', required=True,
                                   metavar='COMMAND')
  for flags in (train, sample, demo):
    flags.add(commands)
  evaluate.add(commands, own_metric)
  for flags in (data, plan, show_config, export, report):
    flags.add(commands)
  return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses flags; `--config.key=value` become (key, value) in `overrides`.

  Raises:
    errors.UserError: Anything that `argparse` would refuse.
  """
  overrides, rest = [], []
  for argument in argv:
    if not argument.startswith(_OVERRIDE_PREFIX):
      rest.append(argument)
      continue
    key, equals, value = argument.removeprefix(_OVERRIDE_PREFIX).partition('=')
    if not equals or not key:
      raise errors.UserError(
          f'{argument} needs a value: --config.KEY=VALUE, without spaces')
    overrides.append((key, value))
  args, unknown = make_parser(evaluate.own_metric(rest)).parse_known_args(rest)
  if unknown:
    names = (getattr(args, name, None) for name in (
        'command', 'action', 'metric'))
    raise errors.UserError(
        f'unrecognized arguments: {" ".join(unknown)} (see walt '
        f'{" ".join(name for name in names if name)} --help)')
  if overrides and not args.takes_overrides:
    raise errors.UserError(
        f'walt {args.command} takes no --config.{overrides[0][0]}; only a '
        'command with --config does')
  args.overrides, args.argv = overrides, list(argv)
  return args


def _entry_point(module: str) -> Callable[[argparse.Namespace], None]:
  return importlib.import_module(module).run


def _say(message: str) -> None:
  print(f'walt: {" ".join(message.split())}', file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code.

  Args:
    argv: The command line; None: that of this process, which is the command's
      own and ends with it. An interrupted one does not return.
  """
  if argv is None:
    return interrupts.own_process(lambda watch: _run(sys.argv[1:], watch))
  with interrupts.watching() as watch:
    return _run(argv, watch)


def _run(argv: Sequence[str], watch: interrupts.Watch) -> int:
  # TensorFlow, where CLU imports it, is silent about processor features.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

  def work() -> int:
    args = parse(argv)
    locations.reach(args)
    host_memory.keep_freed()
    if args.command in _COMPILING and (not_kept := program_cache.enable()):
      _say(not_kept)
    if not hasattr(args, 'work'):  # Else its first process checks.
      outputs.check(args)
    _entry_point(args.module)(args)
    sys.stdout.flush()
    return exit_codes.DONE

  return answered(work, watch)


def answered(work: Callable[[], int], watch: interrupts.Watch) -> int:
  """Runs a command's work; says in one line what ended it, if anything did.

  Args:
    work: Returns the exit code.
    watch: Knows what a signal has asked for.

  Returns:
    The exit code.
  """
  try:
    return work()
  except BaseException as error:  # pylint: disable=broad-except
    if watch.stopped_by is not None and not isinstance(error, SystemExit):
      # Whatever a library has made of it.
      watch.tell(interrupts.words_of(watch.stopped_by))
      return interrupts.code_of(watch.stopped_by)
    return _code_of(error)


def _code_of(error: BaseException) -> int:
  """Says what ended a command, and returns its exit code."""
  if isinstance(error, SystemExit):  # --help, or the run's own code.
    if isinstance(error, interrupts.InOrder):
      _say(str(error))
    return error.code if isinstance(error.code, int) else exit_codes.DONE
  if isinstance(error, KeyboardInterrupt):
    _say('interrupted')
    return exit_codes.INTERRUPTED
  if isinstance(error, BrokenPipeError):
    # The reader of our output has gone; nothing more may be flushed to it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_codes.BROKEN_PIPE
  code = getattr(error, 'exit_code', None)
  if isinstance(code, int):  # It names its own.
    _say(str(error))
    return code
  why = _refusal(error)
  if why is not None:
    _say(f'error: {why}')
    return exit_codes.USER_ERROR
  text = ''.join(traceback.format_exception(error))
  if not supervised.fault(text):
    print(text, end='', file=sys.stderr, flush=True)
  return exit_codes.FAULT


def _refusal(error: BaseException) -> str | None:
  """One line about what the user can fix, or None."""
  if isinstance(error, errors.UserError):
    return str(error)
  if paths.is_refusal(error):
    return (f'{paths.refusal("a bucket", error)}; then run the same command '
            'again')
  return disk.refusal(error)


if __name__ == '__main__':
  sys.exit(main())
