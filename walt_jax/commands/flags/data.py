"""Flags of `walt data`."""
from typing import Any

from walt_jax.commands.flags import code
from walt_jax.commands.flags import hosts
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import outputs
from walt_jax.commands.flags import values


def add(commands: Any) -> None:
  """Adds `walt data`."""
  parser = commands.add_parser('data', help='prepare, render or inspect data')
  actions = parser.add_subparsers(dest='action', required=True,
                                  metavar='ACTION')
  _add_prepare(actions)
  render = actions.add_parser(
      'render', help='write clips of the embedded data')
  render.add_argument('name', choices=('moving_digits', 'stage_play'))
  render.add_argument('--split', default='heldout', metavar='S')
  render.add_argument('--num', type=values.positive_int, required=True,
                      metavar='N')
  render.add_argument('--output', required=True,
                      type=locations.written_work, metavar='DIR')
  outputs.add_overwrite(render)
  render.add_argument('--size', type=values.positive_int, default=32,
                      metavar='N')
  render.add_argument('--num_frames', type=values.positive_int, default=17,
                      metavar='N')
  render.add_argument('--difficulty', metavar='NAME',
                      help='moving digits: quick (default) or free; stage '
                      'play: solo (default), duo or stage')
  render.add_argument('--heldout', type=values.natural, default=0, metavar='M',
                      help='add a split of M held-out clips')
  render.add_argument('--labels', choices=('digit_direction', 'digit'),
                      help='of moving digits: what labels name '
                      '(digit_direction)')
  render.add_argument('--seed', type=values.seed, default=0, metavar='S',
                      help='default: %(default)s')
  render.add_argument('--clips', type=values.natural, metavar='N',
                      help='clips also written as .npy and .mp4; default: all '
                      'of a held-out split or of up to 64, else none')
  inspect = actions.add_parser(
      'inspect', help='summary and contact sheet of a data set')
  inspect.add_argument('path', type=locations.read, metavar='DIR')
  inspect.add_argument('--out', type=locations.written_file,
                       metavar='FILE.png',
                       help='default: DIR/contact_sheet.png')
  outputs.add_overwrite(inspect)
  inspect.add_argument('--clips', type=values.positive_int, default=16,
                       metavar='N', help='clips on the contact sheet')
  parser.set_defaults(module='walt_jax.commands.data')


def _add_prepare(actions: Any) -> None:
  parser = actions.add_parser(
      'prepare', help='clips -> ArrayRecord data set with a manifest',
      description='Reads videos, images and tar shards from a folder and '
      'writes a sharded data set and manifest.json, where every file that '
      'cannot be used is listed. A rerun continues where it stopped.')
  add = parser.add_argument
  add('--input', required=True, type=locations.read, metavar='DIR')
  add('--output', required=True, type=locations.written_work, metavar='DIR')
  outputs.add_overwrite(parser)
  what = parser.add_argument_group('what is known of the files')
  what.add_argument('--annotations', type=values.separated(locations.read),
                    metavar='PATH',
                    help='captions (.jsonl, .csv, .parquet), Kinetics .csv '
                    'lists, or the folder of UCF-101 split files; default: '
                    'captions.* in the input')
  what.add_argument('--ucf_split', type=int, choices=(1, 2, 3), default=1,
                    help='which of the official splits')
  what.add_argument('--split_folders', action='store_true',
                    help='folders named train, val, test are the splits')
  what.add_argument('--heldout', type=values.number, metavar='P',
                    help='else, fraction of the groups of files that is held '
                    'out (0.1)')
  clip = parser.add_argument_group('clips')
  clip.add_argument('--size', type=values.positive_int, metavar='N',
                    help='shorter side of what is stored, in pixels (128)')
  clip.add_argument('--fps', type=values.positive, metavar='F',
                    help='resample to this rate')
  clip.add_argument('--num_frames', type=values.positive_int, metavar='N',
                    help='shortest clip to accept (17); 1 takes images')
  clip.add_argument('--clip_frames', type=values.positive_int, metavar='N',
                    help='cut longer videos into clips of N frames (128)')
  clip.add_argument('--clip_stride', type=values.positive_int, metavar='N',
                    help='frames from clip to clip (clip_frames)')
  clip.add_argument('--codec', choices=('jpeg', 'png', 'h264'),
                    help='how clips are stored: single frames or video (jpeg)')
  clip.add_argument('--quality', type=values.positive_int, metavar='Q',
                    help='1 to 100 (95)')
  work = parser.add_argument_group('work')
  work.add_argument('--num_shards', type=values.positive_int, metavar='N')
  work.add_argument('--workers', type=values.positive_int, metavar='N',
                    help='processes on this machine (all cores)')
  work.add_argument('--beam_pipeline_options', default='', metavar='LIST',
                    help="of Apache Beam: 'runner=FlinkRunner,..'")
  text = parser.add_argument_group('text encoder')
  text.add_argument('--text', choices=('minilm', 't5', 'none'),
                    help='by whose limit captions that will be cut are counted '
                    '(minilm, if installed); with --latents, if named, also '
                    'caches text states')
  text.add_argument('--text_path', type=locations.read, metavar='DIR',
                    help='its weights')
  text.add_argument('--max_tokens', type=values.positive_int, default=64,
                    metavar='L', help='tokens of a caption that it reads (64)')
  latents = parser.add_argument_group('latent cache')
  latents.add_argument('--latents', action='store_true',
                       help='cache latents; of an input that is a data set '
                       'already, only this is done')
  latents.add_argument('--workdir', type=locations.read,
                       metavar='TOKENIZER')
  code.add(latents)
  latents.add_argument('--height', type=values.positive_int, metavar='N',
                       help='of cached clips, with --width')
  latents.add_argument('--width', type=values.positive_int, metavar='N')
  latents.add_argument('--low_res_factor', type=values.natural, default=0,
                       metavar='F', help='also cache latents of the clip '
                       'downsampled by F, for super-resolution')
  latents.add_argument('--images_per_clip', type=values.natural, default=0,
                       metavar='N', help='frames of each clip also cached on '
                       'their own, for image rows')
  hosts.add(
      parser, work='walt_jax.commands.data',
      does='With --latents, of prepared data: each encodes every N-th shard '
      'on its own devices into one --output that all share; process 0 writes '
      'the manifest.',
      again='to continue at the unfinished shards',
      process_help='; without --coordinator, one such command a machine, '
      'which the others know by the files of --output alone')
