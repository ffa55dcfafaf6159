"""Flags of `walt report`."""
from typing import Any

from walt_jax.commands.flags import locations
from walt_jax.commands.flags import outputs
from walt_jax.commands.flags import values


def add(commands: Any) -> None:
  """Adds `walt report`."""
  parser = commands.add_parser(
      'report', help='one HTML page of a folder of runs',
      description='Writes DIR/report.html: clips, curves, scores, timing. It '
      'needs no other file.')
  parser.add_argument('directory', type=locations.read, metavar='DIR')
  parser.add_argument('--out', type=locations.written_file, metavar='FILE',
                      help='default: DIR/report.html')
  outputs.add_overwrite(parser)
  parser.add_argument('--max_clips', type=values.positive_int, default=24,
                      metavar='N', help='clips shown of each folder')
  parser.set_defaults(module='walt_jax.commands.report')
