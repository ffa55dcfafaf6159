"""`walt config`: every key of a config, its value and what it means."""
import argparse
import shutil

from walt_jax.builders import config as config_lib
from walt_jax.builders import reference
from walt_jax.builders import schema
from walt_jax.core import errors


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt config --help`."""
  if args.markdown:
    if args.file:
      raise errors.UserError(
          f'walt config --markdown writes the keys of all configs; leave out '
          f'{args.file}')
    print(reference.markdown(), end='')
    return
  if not args.file:
    for name, file in config_lib.installed().items():
      print(f'{name}: {", ".join(config_lib.variants(str(file)))}')
    return
  config = schema.of(config_lib.load(args.file, args.overrides))
  print(reference.text(config, min(shutil.get_terminal_size().columns, 120)))
