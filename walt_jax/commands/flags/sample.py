"""Flags of `walt sample`."""
from typing import Any

from walt_jax.commands.flags import code
from walt_jax.commands.flags import hosts
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import outputs
from walt_jax.commands.flags import sampling
from walt_jax.commands.flags import values


def add(commands: Any) -> None:
  """Adds `walt sample`."""
  parser = commands.add_parser(
      'sample', help='draw clips from trained stages',
      description='Draws clips: an .mp4 and a lossless .npy each, and '
      'samples.json. Lists by stage are separated by commas (guidance: '
      'semicolons); one value serves all stages.')
  parser.add_argument('--workdir', required=True,
                      type=values.separated(locations.read),
                      metavar='BASE[,SR1,SR2]')
  parser.add_argument('--out', required=True,
                      type=locations.written_clips, metavar='DIR')
  outputs.add_overwrite(parser)
  parser.add_argument('--prompt', metavar='TEXT')
  parser.add_argument('--label', metavar='NAME', help="a class, or 'all'; "
                      'with a prompt, both; with neither, samples are drawn '
                      'unconditionally')
  parser.add_argument('--requests', type=locations.read,
                      metavar='FILE.jsonl', help='instead, one '
                      'request a line: prompt (or [[frame, prompt], ..]), '
                      'label, image, video, seed, conditions')
  given = parser.add_mutually_exclusive_group()
  given.add_argument('--image', type=locations.read, metavar='FILE',
                     help='the first frame')
  given.add_argument('--video', type=locations.read, metavar='FILE',
                     help='its last frames are the first ones')
  parser.add_argument('--condition', type=values.condition, action='append',
                      metavar='NAME=NUMBER[,..]', help='the value of a '
                      'condition of your own (model.conditions); may be '
                      'given again for others')
  parser.add_argument('--num_frames', type=values.positive_int, metavar='N',
                      help='more than a window continues from its last frames; '
                      'fewer are cut off')
  parser.add_argument('--num_samples', type=values.positive_int, default=None,
                      metavar='N', help='for each prompt or label; '
                      'default: 1')
  sampling.add(parser)
  sampling.add_chunks(parser)
  sampling.add_rate(parser)
  sampling.add_mesh(parser)
  parser.add_argument('--seed', type=values.seed, default=0, metavar='S',
                      help='default: %(default)s')
  parser.add_argument('--batch_size', type=values.positive_int, metavar='N',
                      help='samples drawn at once; changes no result')
  parser.add_argument('--all_stages', action='store_true',
                      help='of a cascade, write what each stage draws, too')
  parser.add_argument('--animation', choices=('gif', 'webp'),
                      help='write this beside each .mp4')
  code.add(parser)
  hosts.add(
      parser, work='walt_jax.commands.sample',
      does='Each draws every N-th batch of samples on its own devices; '
      'process 0 writes all of them. --workdir must be the same folder for '
      'all.')
