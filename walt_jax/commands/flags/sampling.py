"""Flags by which samples are drawn: of `walt sample` and `walt evaluate`."""
import argparse
from typing import Any

from walt_jax.commands.flags import values


def add_chunks(parser: Any) -> None:
  """Adds what the tokenizer computes at once."""
  add_ = parser.add_argument
  add_('--stream', action='store_true',
       help='encode and decode one latent frame at a time: memory does not '
       'grow with the clip')
  add_('--tile', type=values.positive_int, metavar='N',
       help='encode and decode frames in tiles of N x N latent cells; with a '
       "tokenizer of norm 'position' equal to whole frames, else blended")


def add_rate(parser: Any) -> None:
  """Adds the rate that clips are written at."""
  parser.add_argument(
      '--fps', type=values.positive, metavar='F',
      help='frames a second of the files; by default those of the clips that '
      'were trained on')


def add_mesh(parser: Any) -> None:
  """Adds the mesh that stages draw on."""
  parser.add_argument(
      '--mesh', type=values.mesh, metavar='fsdp=8[,..]',
      help='sizes of the axes data, fsdp, tensor and context, as in a config '
      "(data=-1 if left out: all other devices); by default the base run's "
      'own. context=4 has four devices share each clip')


def add(parser: Any) -> None:
  """Adds what may be chosen for each stage to a parser or a group of it."""
  add_ = parser.add_argument
  add_('--steps', type=values.separated(values.positive_int),
       metavar='50[,..]')
  add_('--sampler', metavar='ddim[,..]', type=values.separated(str),
       help='ddim, ddpm, dpmpp_2m or module:Class')
  add_('--factorized', action=argparse.BooleanOptionalAction,
       help='base: draw the first frame alone, as an image, and then the clip '
       'that begins with it')
  add_('--guidance', type=values.separated(values.guidance, ';'),
       metavar='text=7.5,label=1,frames=2[;..]',
       help="a stage's scales, 'none', or 'config' for those of its config")
  add_('--noise_level', type=values.separated(values.noise_level),
       metavar='A[,B]', help='noise on the low-resolution input, one a '
       'super-resolution stage')
