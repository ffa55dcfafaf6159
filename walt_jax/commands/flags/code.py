"""The flag `--allow_code`, of sub-commands that read a work directory."""
import argparse


def add(parser: argparse.ArgumentParser) -> None:
  """Adds `--allow_code` to a sub-command."""
  parser.add_argument('--allow_code', action='store_true',
                      help='import what a config.json that is read names as '
                      'module:Class; for work directories that you trust')
