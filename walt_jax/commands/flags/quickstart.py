"""Flags of `python -m walt_jax.quickstart`."""
import argparse
from collections.abc import Sequence
import pathlib


def parse(argv: Sequence[str] | None, description: str | None
          ) -> argparse.Namespace:
  """Parses `--out` (a path or None) and `--long`; exits on a wrong flag.

  Args:
    argv: Flags; None: the program's own.
    description: What `--help` says.
  """
  parser = argparse.ArgumentParser(prog='quickstart', description=description)
  parser.add_argument('--out', type=pathlib.Path)
  parser.add_argument('--long', action='store_true',
                      help='an hour of training on harder digits')
  return parser.parse_args(argv)
