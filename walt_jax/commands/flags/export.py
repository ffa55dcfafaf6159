"""Flags of `walt export`."""
from typing import Any

from walt_jax.commands.flags import code
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import outputs
from walt_jax.commands.flags import values


def add(commands: Any) -> None:
  """Adds `walt export`."""
  parser = commands.add_parser(
      'export', help='write a trained model as safetensors',
      description='Writes model.safetensors (averaged weights) and '
      'config.json, with the tokenizer of a denoiser beside them.')
  parser.add_argument('--workdir', required=True, type=locations.read,
                      metavar='DIR')
  parser.add_argument('--out', required=True,
                      type=locations.written_export, metavar='DIR',
                      help='a folder of its own')
  outputs.add_overwrite(parser)
  parser.add_argument('--step', type=values.natural, metavar='N',
                      help='checkpoint to export; the newest by default')
  code.add(parser)
  parser.set_defaults(module='walt_jax.commands.export')
