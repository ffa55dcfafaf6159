"""`walt report DIR`: one HTML page of a folder of runs."""
import argparse

from walt_jax.commands.flags import outputs
from walt_jax.core import paths
from walt_jax.report import build


def run(args: argparse.Namespace) -> None:
  """Writes the page and says where."""
  path = build.write_report(args.directory, args.out, args.max_clips,
                            made_by=outputs.made_by(args))
  print(f'{path} ({paths.size(path) / 2**20:.1f} MiB)')
