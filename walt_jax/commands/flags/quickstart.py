"""Flags of `python -m walt_jax.quickstart`."""
import argparse
from collections.abc import Sequence
import pathlib

from walt_jax.core import errors
from walt_jax.core import made_by as made_by_lib
from walt_jax.core import outputs
from walt_jax.core import paths


def parse(argv: Sequence[str] | None, description: str | None
          ) -> argparse.Namespace:
  """Parses `--out` (a path or None) and `--long`; exits on a wrong flag.

  Args:
    argv: Flags; None: the program's own.
    description: What `--help` says.

  Raises:
    errors.UserError: `--out` is not on this machine.
  """
  parser = argparse.ArgumentParser(prog='quickstart', description=description)
  parser.add_argument('--out', metavar='DIR')
  parser.add_argument('--long', action='store_true',
                      help='an hour of training on harder digits')
  args = parser.parse_args(argv)
  if args.out is not None:
    paths.check(args.out)
    if paths.is_remote(args.out):
      raise errors.UserError(
          f'--out {args.out!r} lies in a bucket, but the tutorial runs on this '
          'machine; give a local folder, and copy it afterwards (gcloud '
          'storage cp -r)')
    outputs.check(
        [outputs.Output('--out', args.out, outputs.Kind.OWN)], (),
        made_by_lib.MadeBy('quickstart', {}, ''))
    args.out = pathlib.Path(args.out)
  return args
