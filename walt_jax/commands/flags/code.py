"""The flag `--allow_code`, of sub-commands that read a work directory."""
from typing import Any


def add(parser: Any) -> None:
  """Adds `--allow_code` to a sub-command or a group of its flags."""
  parser.add_argument('--allow_code', action='store_true',
                      help='import what a config.json that is read names as '
                      'module:Class; for work directories that you trust')
