"""The flag `--config`, of several sub-commands."""
import argparse

from walt_jax.commands.flags import locations


def add(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
  """Adds `--config` to a sub-command."""
  parser.add_argument('--config', required=required, type=locations.read,
                      metavar='FILE[:variant]',
                      help='a Python file with get_config, or the name of an '
                      'installed config, such as ucf101:l; any key can be set '
                      'with --config.KEY=VALUE')
  parser.set_defaults(takes_overrides=True)
