"""Flags of `walt demo`."""
from typing import Any

from walt_jax.commands.flags import code
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import sampling
from walt_jax.commands.flags import values


def add(commands: Any) -> None:
  """Adds `walt demo`."""
  parser = commands.add_parser(
      'demo', help='a local web page that draws clips',
      description='Serves a page to type a prompt or give an image, choose '
      'settings and watch the result. It needs the extra "demo" (Gradio).')
  parser.add_argument('--workdir', required=True,
                      type=values.separated(locations.read),
                      metavar='BASE[,SR1,SR2]',
                      help='work directories or exports, one a stage')
  parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS',
                      help='where to listen; by default only this machine '
                      'can reach it')
  parser.add_argument('--port', type=values.natural, default=7860, metavar='N',
                      help='default: %(default)s; 0: any free one')
  sampling.add_rate(parser)
  code.add(parser)
  parser.set_defaults(module='walt_jax.commands.demo')
