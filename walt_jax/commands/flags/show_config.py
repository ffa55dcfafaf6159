"""Flags of `walt config`."""
from typing import Any

from walt_jax.commands.flags import locations


def add(commands: Any) -> None:
  """Adds `walt config`."""
  parser = commands.add_parser(
      'config', help='every key of a config, its value and what it means',
      description='Checks a config and lists its keys, those that it leaves '
      'at their defaults too. Any key can be set with --config.KEY=VALUE. '
      'Without a file, lists the installed configs and their variants.')
  parser.add_argument('file', nargs='?', type=locations.read,
                      metavar='FILE[:variant]',
                      help='a path, or the name of an installed config')
  parser.add_argument('--markdown', action='store_true',
                      help='write docs/config.md instead: all keys there are')
  parser.set_defaults(module='walt_jax.commands.config', takes_overrides=True)
