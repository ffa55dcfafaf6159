"""What a command writes, of its flags: checked before any work."""
import argparse
from collections.abc import Iterator
import os
from typing import Any

import walt_jax
from walt_jax.commands.flags import locations
from walt_jax.core import made_by as made_by_lib
from walt_jax.core import outputs
from walt_jax.core import paths

# What changes no result, and what `argparse` and the command line note.
_NO_SETTINGS = frozenset({
    'action', 'again', 'allow_code', 'allow_cpu', 'argv', 'batch_size',
    'command', 'coordinator', 'host_timeout', 'mesh', 'metric', 'module',
    'overwrite', 'poll', 'process', 'start_timeout', 'takes_overrides', 'work',
    'workers'})


def add_overwrite(parser: argparse.ArgumentParser) -> None:
  """Adds `--overwrite`, of every command whose results are files."""
  parser.add_argument(
      '--overwrite', action='store_true',
      help='replace results of other settings; those of the same are always '
      'continued')


def of(args: argparse.Namespace) -> list[outputs.Output]:
  """All paths that a command line says to write."""
  found = [outputs.Output(f'--{name}', value, value.kind)
           for name, value in vars(args).items()
           if isinstance(value, locations.Written)]
  return found + list(_defaults(args))


def _defaults(args: argparse.Namespace) -> Iterator[outputs.Output]:
  """Files that are written where no flag names them.

  They lie in an input folder; where there is none, that is what is wrong.
  """
  if args.command == 'report':
    folder, name = args.directory, 'report.html'
  elif args.command == 'data' and args.action == 'inspect':
    folder, name = args.path, 'contact_sheet.png'
  else:
    return
  if args.out is None and paths.path(folder).is_dir():
    yield outputs.Output(
        f'DIR/{name}:', os.path.join(folder, name), outputs.Kind.FILE)


def made_by(args: argparse.Namespace) -> made_by_lib.MadeBy:
  """What the results of a command line say of it."""
  words = [getattr(args, name, None) for name in (
      'command', 'action', 'metric')]
  settings = {
      name: _plain(value) for name, value in vars(args).items()
      if name not in _NO_SETTINGS and not isinstance(value, locations.Written)}
  return made_by_lib.MadeBy(
      ' '.join(filter(None, words)),
      {name: value for name, value in sorted(settings.items())
       if value not in (None, False, [])}, walt_jax.__version__)


def check(args: argparse.Namespace) -> None:
  """The one check of all that a command writes.

  Raises:
    errors.UserError: Something cannot, or should not, be written.
  """
  found = of(args)
  if not found:
    return
  read = [str(location) for location in locations.found(vars(args).values())
          if not location.is_written]
  outputs.check(found, read, made_by(args),
                overwrite=getattr(args, 'overwrite', False))


def _plain(value: Any) -> Any:
  """A flag's value as JSON reads it back."""
  if isinstance(value, locations.Location):
    return value if paths.is_remote(value) else os.path.abspath(value)
  if isinstance(value, dict):
    return {str(name): _plain(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  return str(value)
