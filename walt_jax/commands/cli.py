"""The `walt` command: flags in, one call of an entry point out.

Nothing heavy is imported before a sub-command is chosen. Exit codes: 0 done;
2 the user can mend it (one line on standard error); 1 a fault of the program
(traceback); 75 stopped by preemption after saving; 130 interrupted.
"""
import argparse
from collections.abc import Callable, Sequence
import importlib
import os
import sys
import traceback
from typing import NoReturn

import walt_jax
from walt_jax.commands import evaluate_flags
from walt_jax.commands import flags
from walt_jax.core import errors
from walt_jax.core import host_memory

EXIT_USER_ERROR = 2
EXIT_FAULT = 1
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_OVERRIDE_PREFIX = '--config.'


class _Parser(argparse.ArgumentParser):
  """Reports errors as exceptions; knows no abbreviated flags."""

  def __init__(self, *args, **kwargs):
    kwargs.setdefault('allow_abbrev', False)
    super().__init__(*args, **kwargs)

  def error(self, message: str) -> NoReturn:
    raise errors.UserError(f'{message} (see {self.prog} --help)')


def _add_train(commands) -> None:
  parser = commands.add_parser(
      'train', help='train a stage, or resume its training',
      description='Trains the stage that a config describes. A work directory '
      'with a checkpoint is resumed.')
  _add_config(parser, required=False)
  parser.add_argument('--workdir', metavar='DIR',
                      help='config.json, metrics.jsonl, checkpoints/')
  parser.add_argument('--replay', metavar='BUNDLE',
                      help='only take the failed step again that training '
                      'kept in WORKDIR/replay/; --config and --workdir are '
                      'then those of the run')
  parser.add_argument('--max_failures', type=flags.positive_int, default=10,
                      metavar='N', help='stop after N steps in a row whose '
                      'loss or gradients were not finite (10)')
  parser.add_argument('--profile', type=flags.frame_range,
                      metavar='FIRST:LAST',
                      help='write a profiler trace of these steps')
  hosts = parser.add_argument_group(
      'several hosts', 'The same command runs on each. Where the environment '
      'tells (GKE, XPK, SLURM, WALT_COORDINATOR; docs/scaling.md), no flag is '
      'needed.')
  hosts.add_argument('--coordinator', metavar='HOST:PORT',
                     help='process 0; the port after it is used too')
  hosts.add_argument('--process', type=flags.process, metavar='I/N',
                     help='this process of N, from 0')
  hosts.add_argument('--host_timeout', type=flags.positive, default=60.0,
                     metavar='SECONDS', help='silence after which a host '
                     'counts as lost (60)')
  hosts.add_argument('--start_timeout', type=flags.positive, default=300.0,
                     metavar='SECONDS', help='how long to wait for all hosts '
                     'to come (300)')
  parser.set_defaults(module='walt_jax.commands.train')


def _add_config(parser: argparse.ArgumentParser, *,
                required: bool = True) -> None:
  parser.add_argument('--config', required=required, metavar='FILE[:variant]',
                      help='a Python file with get_config; any key can be set '
                      'with --config.KEY=VALUE')
  parser.set_defaults(takes_overrides=True)


def _add_sample(commands) -> None:
  parser = commands.add_parser(
      'sample', help='draw clips from trained stages',
      description='Draws clips: an .mp4 and a lossless .npy each, and '
      'samples.json. Lists by stage are separated by commas (guidance: '
      'semicolons); one value serves all stages.')
  parser.add_argument('--workdir', required=True,
                      type=flags.separated(str), metavar='BASE[,SR1,SR2]')
  parser.add_argument('--out', required=True, metavar='DIR')
  what = parser.add_mutually_exclusive_group()
  what.add_argument('--prompt', metavar='TEXT')
  what.add_argument('--label', metavar='NAME', help="a class, or 'all'")
  what.add_argument('--requests', metavar='FILE.jsonl', help='one request a '
                    'line: prompt (or [[frame, prompt], ..]), label, image, '
                    'video, seed')
  given = parser.add_mutually_exclusive_group()
  given.add_argument('--image', metavar='FILE', help='the first frame')
  given.add_argument('--video', metavar='FILE',
                     help='its last frames are the first ones')
  parser.add_argument('--num_frames', type=flags.positive_int, metavar='N',
                      help='more than a window goes on from its last frames; '
                      'fewer are cut off')
  parser.add_argument('--num_samples', type=flags.positive_int, default=None,
                      metavar='N', help='for each prompt or label')
  parser.add_argument('--steps', type=flags.separated(flags.positive_int),
                      metavar='50[,..]')
  parser.add_argument('--sampler', metavar='ddim[,..]',
                      type=flags.separated(str),
                      help='ddim, ddpm or dpmpp_2m')
  parser.add_argument('--factorized', action=argparse.BooleanOptionalAction,
                      help='base: draw the first frame alone, as an image, '
                      'and then the clip that begins with it')
  parser.add_argument('--guidance', type=flags.separated(flags.guidance, ';'),
                      metavar='text=7.5,label=1,frames=2[;..]')
  parser.add_argument('--noise_level', type=flags.separated(flags.noise_level),
                      metavar='A[,B]', help='noise on the low-resolution '
                      'input, one a super-resolution stage')
  parser.add_argument('--seed', type=flags.natural, default=0, metavar='S')
  parser.add_argument('--batch_size', type=flags.positive_int, metavar='N',
                      help='samples drawn at once; changes no result')
  parser.add_argument('--animation', choices=('gif', 'webp'),
                      help='write this beside each .mp4')
  parser.set_defaults(module='walt_jax.commands.sample')


def _add_demo(commands) -> None:
  parser = commands.add_parser(
      'demo', help='a local web page that draws clips',
      description='Serves a page to type a prompt or give an image, choose '
      'settings and watch the result. It needs the extra "demo" (Gradio).')
  parser.add_argument('--workdir', required=True,
                      type=flags.separated(str), metavar='BASE[,SR1,SR2]')
  parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS',
                      help='where to listen; by default only this machine '
                      'can reach it')
  parser.add_argument('--port', type=flags.natural, default=7860, metavar='N',
                      help='0: any free one')
  parser.set_defaults(module='walt_jax.commands.demo')


def _add_evaluate(commands) -> None:
  parser = commands.add_parser(
      'evaluate', help='score clips or a checkpoint',
      description='Scores clips. A PATH is a folder of videos or images, an '
      '.npy of uint8 [N, T, H, W, 3], an .npz with such an arr_0, or a '
      'prepared data set: DIR[:SPLIT][:HEIGHTxWIDTH].')
  evaluate_flags.add(parser)
  parser.set_defaults(module='walt_jax.commands.evaluate')


def _add_data(commands) -> None:
  parser = commands.add_parser('data', help='prepare, render or inspect data')
  actions = parser.add_subparsers(dest='action', required=True,
                                  metavar='ACTION')
  _add_prepare(actions)
  render = actions.add_parser(
      'render', help='write clips of the embedded data')
  render.add_argument('name', choices=('moving_digits',))
  render.add_argument('--split', default='heldout', metavar='S')
  render.add_argument('--num', type=flags.positive_int, required=True,
                      metavar='N')
  render.add_argument('--output', required=True, metavar='DIR')
  render.add_argument('--size', type=flags.positive_int, default=32,
                      metavar='N')
  render.add_argument('--num_frames', type=flags.positive_int, default=17,
                      metavar='N')
  render.add_argument('--difficulty', metavar='NAME',
                      help='quick (default) or free')
  render.add_argument('--heldout', type=flags.natural, default=0, metavar='M',
                      help='add a split of M clips of held-out digits')
  render.add_argument('--labels', choices=('digit_direction', 'digit'),
                      default='digit_direction', help='what labels name')
  render.add_argument('--seed', type=flags.natural, default=0, metavar='S')
  render.add_argument('--clips', type=flags.natural, metavar='N',
                      help='clips also written as .npy and .mp4; default: all '
                      'of a held-out split or of up to 64, else none')
  inspect = actions.add_parser(
      'inspect', help='summary and contact sheet of a data set')
  inspect.add_argument('path', metavar='DIR')
  inspect.add_argument('--out', metavar='FILE.png',
                       help='default: DIR/contact_sheet.png')
  inspect.add_argument('--clips', type=flags.positive_int, default=16,
                       metavar='N', help='clips on the contact sheet')
  parser.set_defaults(module='walt_jax.commands.data')


def _add_plan(commands) -> None:
  parser = commands.add_parser(
      'plan', help='parameters, FLOPs and memory of a config, without running '
      'it',
      description='Counts what a config takes: parameters by part, FLOPs of a '
      'training step and of a sample, tokens; for a tokenizer also its '
      'receptive field and compression. With a topology, compiles the train '
      'step and the sampler for that absent TPU slice (extra "tpu_plan"): '
      'memory by part, collectives, a roofline. Nothing is allocated.')
  _add_config(parser)
  add = parser.add_argument
  add('--topology', metavar='NAME',
      help='v4, v5e, v5p, v6e or tpu7x and a shape, such as v5p:4x4x4; or '
      'gpu:N, for an estimate of memory')
  add('--sweep', action='store_true',
      help='compare meshes and remat policies on the topology; recommends one')
  add('--num_compiled', type=flags.positive_int, default=4, metavar='N',
      help='layouts that --sweep compiles, the most promising first (4)')
  add('--largest_batch', action='store_true',
      help='search for the largest global batch that fits; some compilations')
  add('--no_sampler', action='store_true', help='compile the train step alone')
  add('--no_train_step', action='store_true',
      help='compile the sampler alone (of a tokenizer: decoding)')
  add('--json', metavar='FILE', help='write the figures here')
  add('--html', metavar='FILE', help='write a page here')
  parser.set_defaults(module='walt_jax.commands.plan')


def _add_export(commands) -> None:
  parser = commands.add_parser(
      'export', help='write a trained model as safetensors',
      description='Writes model.safetensors (averaged weights) and '
      'config.json, with the tokenizer of a denoiser beside them.')
  parser.add_argument('--workdir', required=True, metavar='DIR')
  parser.add_argument('--out', required=True, metavar='DIR',
                      help='a new folder')
  parser.add_argument('--step', type=flags.natural, metavar='N',
                      help='checkpoint to export; the newest by default')
  parser.set_defaults(module='walt_jax.commands.export')


def _add_prepare(actions) -> None:
  parser = actions.add_parser(
      'prepare', help='clips -> ArrayRecord data set with a manifest',
      description='Reads videos, images and tar shards from a folder and '
      'writes a sharded data set and manifest.json, where every file that '
      'cannot be used is listed. A rerun goes on where it stopped.')
  add = parser.add_argument
  add('--input', required=True, metavar='DIR')
  add('--output', required=True, metavar='DIR')
  what = parser.add_argument_group('what is known of the files')
  what.add_argument('--annotations', type=flags.separated(str), metavar='PATH',
                    help='captions (.jsonl, .csv, .parquet), Kinetics .csv '
                    'lists, or the folder of UCF-101 split files; default: '
                    'captions.* in the input')
  what.add_argument('--ucf_split', type=int, choices=(1, 2, 3), default=1,
                    help='which of the official splits')
  what.add_argument('--split_folders', action='store_true',
                    help='folders named train, val, test are the splits')
  what.add_argument('--heldout', type=flags.number, metavar='P',
                    help='else, fraction of the groups of files that is held '
                    'out (0.1)')
  clip = parser.add_argument_group('clips')
  clip.add_argument('--size', type=flags.positive_int, metavar='N',
                    help='shorter side of what is stored, in pixels (128)')
  clip.add_argument('--fps', type=flags.positive, metavar='F',
                    help='resample to this rate')
  clip.add_argument('--num_frames', type=flags.positive_int, metavar='N',
                    help='shortest clip to accept (17); 1 takes images')
  clip.add_argument('--clip_frames', type=flags.positive_int, metavar='N',
                    help='cut longer videos into clips of N frames (128)')
  clip.add_argument('--clip_stride', type=flags.positive_int, metavar='N',
                    help='frames from clip to clip (clip_frames)')
  clip.add_argument('--codec', choices=('jpeg', 'png', 'h264'),
                    help='how clips are stored: single frames or video (jpeg)')
  clip.add_argument('--quality', type=flags.positive_int, metavar='Q',
                    help='1 to 100 (95)')
  work = parser.add_argument_group('work')
  work.add_argument('--num_shards', type=flags.positive_int, metavar='N')
  work.add_argument('--workers', type=flags.positive_int, metavar='N',
                    help='processes on this machine (all cores)')
  work.add_argument('--beam_pipeline_options', default='', metavar='LIST',
                    help="of Apache Beam: 'runner=FlinkRunner,..'")
  latents = parser.add_argument_group('latent cache')
  latents.add_argument('--latents', action='store_true',
                       help='cache latents; of an input that is a data set '
                       'already, only this is done')
  latents.add_argument('--workdir', metavar='TOKENIZER')
  latents.add_argument('--height', type=flags.positive_int, metavar='N',
                       help='of cached clips, with --width')
  latents.add_argument('--width', type=flags.positive_int, metavar='N')
  latents.add_argument('--low_res_factor', type=flags.natural, default=0,
                       metavar='F', help='also cache latents of the clip '
                       'downsampled by F, for super-resolution')
  latents.add_argument('--images_per_clip', type=flags.natural, default=0,
                       metavar='N', help='frames of each clip also cached on '
                       'their own, for image rows')
  latents.add_argument('--text', choices=('minilm', 't5', 'none'),
                       default='none', help='also cache text states of the '
                       'captions')
  latents.add_argument('--text_path', metavar='DIR',
                       help='weights of the text encoder')
  latents.add_argument('--max_tokens', type=flags.positive_int, default=64,
                       metavar='L')
  latents.add_argument('--process', type=flags.process, default=(0, 1),
                       metavar='I/N', help='encode every N-th shard, from I; '
                       'one such command a machine, same --output')


def _add_report(commands) -> None:
  parser = commands.add_parser(
      'report', help='one HTML page of a folder of runs',
      description='Writes DIR/report.html: clips, curves, scores, timing. It '
      'needs no other file.')
  parser.add_argument('directory', metavar='DIR')
  parser.add_argument('--out', metavar='FILE', help='default: DIR/report.html')
  parser.add_argument('--max_clips', type=flags.positive_int, default=24,
                      metavar='N', help='clips shown of each folder')
  parser.set_defaults(module='walt_jax.commands.report')


def make_parser() -> argparse.ArgumentParser:
  """Builds the parser of the whole command line."""
  parser = _Parser(prog='walt', description=walt_jax.__doc__)
  parser.add_argument('--version', action='version',
                      version=f'walt {walt_jax.__version__}')
  parser.set_defaults(takes_overrides=False)
  commands = parser.add_subparsers(dest='command', required=True,
                                   metavar='COMMAND')
  for add in (_add_train, _add_sample, _add_demo, _add_evaluate, _add_data,
              _add_plan, _add_export, _add_report):
    add(commands)
  return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses flags; `--config.key=value` become (key, value) in `overrides`.

  Raises:
    errors.UserError: Anything that `argparse` would refuse.
  """
  overrides, rest = [], []
  for argument in argv:
    if not argument.startswith(_OVERRIDE_PREFIX):
      rest.append(argument)
      continue
    key, equals, value = argument.removeprefix(_OVERRIDE_PREFIX).partition('=')
    if not equals or not key:
      raise errors.UserError(
          f'{argument} needs a value: --config.KEY=VALUE, without spaces')
    overrides.append((key, value))
  args = make_parser().parse_args(rest)
  if overrides and not args.takes_overrides:
    raise errors.UserError(
        f'walt {args.command} takes no --config.{overrides[0][0]}; only a '
        'command with --config does')
  args.overrides, args.argv = overrides, list(argv)
  return args


def _entry_point(module: str) -> Callable[[argparse.Namespace], None]:
  return importlib.import_module(module).run


def _say(message: str) -> None:
  print(f'walt: {" ".join(message.split())}', file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code."""
  # TensorFlow, where CLU imports it, is silent about processor features.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  try:
    args = parse(sys.argv[1:] if argv is None else argv)
    host_memory.keep_freed()
    _entry_point(args.module)(args)
    sys.stdout.flush()
    return 0
  except errors.UserError as error:
    _say(f'error: {error}')
    return EXIT_USER_ERROR
  except SystemExit as stop:  # --help and --version.
    return stop.code if isinstance(stop.code, int) else 0
  except KeyboardInterrupt:
    _say('interrupted')
    return EXIT_INTERRUPTED
  except BrokenPipeError:
    # The reader of our output has gone; nothing more may be flushed to it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE
  except Exception as error:  # pylint: disable=broad-except
    # A run that was stopped on purpose, after saving, names its own code.
    code = getattr(error, 'exit_code', None)
    if isinstance(code, int):
      _say(str(error))
      return code
    traceback.print_exc()
    return EXIT_FAULT


if __name__ == '__main__':
  sys.exit(main())
