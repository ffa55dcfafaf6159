"""The `walt` command: flags in, one call of an entry point out.

Nothing heavy is imported before a sub-command is chosen. Exit codes: 0 done;
2 the user can fix it (one line on standard error); 1 a fault of the program
(traceback); 75 stopped by preemption after saving; 130 interrupted.
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
from walt_jax.commands.flags import plan
from walt_jax.commands.flags import report
from walt_jax.commands.flags import sample
from walt_jax.commands.flags import show_config
from walt_jax.commands.flags import train
from walt_jax.core import errors
from walt_jax.core import host_memory
from walt_jax.core import paths
from walt_jax.core import program_cache

EXIT_USER_ERROR = 2
EXIT_FAULT = 1
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

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
  """Runs one command and returns its exit code."""
  # TensorFlow, where CLU imports it, is silent about processor features.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  try:
    args = parse(sys.argv[1:] if argv is None else argv)
    locations.reach(args)
    host_memory.keep_freed()
    if args.command in _COMPILING and (not_kept := program_cache.enable()):
      _say(not_kept)
    _entry_point(args.module)(args)
    sys.stdout.flush()
    return 0
  except errors.UserError as error:
    _say(f'error: {error}')
    return EXIT_USER_ERROR
  except SystemExit as stop:  # --help and --version.
    return stop.code if isinstance(stop.code, int) else 0
  except KeyboardInterrupt:
    _say('interrupted')
    return EXIT_INTERRUPTED
  except BrokenPipeError:
    # The reader of our output has gone; nothing more may be flushed to it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE
  except Exception as error:  # pylint: disable=broad-except
    # A run that was stopped on purpose, after saving, names its own code.
    code = getattr(error, 'exit_code', None)
    if isinstance(code, int):
      _say(str(error))
      return code
    if paths.is_refusal(error):
      _say(f'error: {paths.refusal("a bucket", error)}; then run the same '
           'command again')
      return EXIT_USER_ERROR
    traceback.print_exc()
    return EXIT_FAULT


if __name__ == '__main__':
  sys.exit(main())
