"""Flags of `walt evaluate`."""
import argparse
from collections.abc import Sequence
from typing import Any

from walt_jax.commands.flags import code
from walt_jax.commands.flags import hosts
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import outputs
from walt_jax.commands.flags import sampling
from walt_jax.commands.flags import values

RECONSTRUCTION = 'reconstruction'
METRICS = {
    'fvd': 'Frechet distance of I3D features of videos',
    'fid': 'Frechet distance of InceptionV3 features of images',
    'is': 'Inception Score of images (InceptionV3) or videos (C3D)',
    RECONSTRUCTION: 'PSNR, SSIM and more, clip by clip',
    'control': 'does what was asked for appear (moving digits)',
}
MEASURED = ('fvd', 'fid', 'is')  # Metrics of sets of features.
BESIDE = ('kvd', 'kid', 'precision_recall', 'is', 'sfid')


def own_metric(argv: Sequence[str]) -> str | None:
  """The metric of a command line, if it is of the form `module:Class`."""
  if len(argv) > 1 and argv[0] == 'evaluate' and ':' in argv[1]:
    return argv[1]
  return None


def groups(metric: str) -> tuple[str, ...]:
  """The groups of flags that a metric takes beside the sets of clips."""
  if metric in MEASURED or metric not in METRICS:
    return ('measure', 'drawing', 'job')
  return ('pairs', 'chunks') if metric == RECONSTRUCTION else ('drawing',)


def add(commands: Any, own: str | None = None) -> None:
  """Adds `walt evaluate`, with a sub-command for each metric and `compare`.

  Args:
    commands: Gets the sub-command.
    own: Name of a metric of the user's own, or None.
  """
  parser = commands.add_parser(
      'evaluate', help='score clips or a checkpoint',
      description='Scores clips. A PATH is a folder of videos or images, an '
      '.npy of uint8 [N, T, H, W, 3], an .npz with such an arr_0, or a '
      'prepared data set: DIR[:SPLIT][:HEIGHTxWIDTH]. METRIC may also be a '
      'class of your own, module:Class (docs/evaluation.md).')
  parser.set_defaults(module='walt_jax.commands.evaluate')
  metrics = parser.add_subparsers(dest='metric', required=True,
                                  metavar='METRIC')
  known = METRICS | ({own: 'a metric of your own'} if own else {})
  for name, text in known.items():
    metric = metrics.add_parser(name, help=text, description=text + '.')
    _add_sets(metric)
    for group in groups(name):
      _GROUPS[group](metric)
    hosts.add(
        metric, work='walt_jax.commands.evaluate',
        does='Each draws, or reads, its share of the clips and computes on '
        'its own devices; process 0 writes the result. --workdir and --cache '
        'must be the same folders for all.', again='to continue')
  compare = metrics.add_parser(
      'compare', help='compare two results, if they may be compared')
  compare.add_argument('files', nargs=2, type=locations.read,
                       metavar='RESULT.json')
  compare.add_argument('--json', type=locations.written_file, metavar='FILE')
  outputs.add_overwrite(compare)


def _add_sets(parser: argparse.ArgumentParser) -> None:
  add_ = parser.add_argument
  add_('--real', type=locations.read, metavar='PATH',
       help='clips, or statistics written by --save_statistics')
  generated = parser.add_mutually_exclusive_group(required=True)
  generated.add_argument('--generated', type=locations.read, metavar='PATH')
  generated.add_argument('--workdir', type=values.separated(locations.read),
                         metavar='BASE[,SR1,SR2]',
                         help='score samples of a checkpoint')
  code.add(parser)
  add_('--json', required=True, type=locations.written_file, metavar='FILE')
  outputs.add_overwrite(parser)
  add_('--protocol', metavar='NAME', default='quick',
       help='default: %(default)s, which compares with nothing published')
  add_('--frames', type=values.positive_int, metavar='N',
       help='score the first N frames')
  add_('--network', type=locations.read_several, metavar='FILE[,FILE]',
       help='weights of the feature network; of images also '
       'efficientnet-lite0 or efficientnet-lite2')
  add_('--batch_size', type=values.positive_int, metavar='N',
       help='clips computed at once; changes no result')
  add_('--seed', type=values.seed, default=0, metavar='S',
       help='default: %(default)s')


def _add_measure(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group('how it is measured')
  add_ = group.add_argument
  add_('--preprocessing', metavar='NAME',
       help="from pixels to the network's input; the protocol's by default")
  add_('--also', type=values.separated(str), default=[], metavar='LIST',
       help=f'scores beside: {", ".join(BESIDE)}')
  add_('--interval', type=values.positive_int, default=0, metavar='N',
       help='95%% interval from N bootstrap resamples')
  add_('--splits', type=values.positive_int, default=10, metavar='N',
       help='of the Inception Score (10)')
  add_('--real_split', metavar='NAME',
       help='what split the real clips are, where --real does not say so')
  add_('--given_frames', type=values.natural, metavar='N',
       help='first frames of each clip that were given to the model, where no '
       'samples.json says so; with --workdir they are taken of the clips of '
       '--real')
  add_('--save_statistics', type=locations.written_file, metavar='FILE.npz',
       help='write the statistics of the real clips, to be given as --real')


def _add_sampling(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group('sampling from --workdir')
  add_ = group.add_argument
  add_('--num_samples', type=values.positive_int, metavar='N',
       help="to draw; the protocol's by default")
  add_('--repeats', type=values.positive_int, metavar='N',
       help="sets of them, of seeds S, S + 1, ..; the protocol's by default")
  add_('--requests', type=locations.read, metavar='FILE.jsonl',
       help='prompts or labels, taken in turn; else each class in turn')
  add_('--step', type=values.natural, metavar='N',
       help='checkpoint of the base; the newest by default')
  sampling.add(group)
  sampling.add_mesh(group)
  add_('--save_samples', type=locations.written_file, metavar='FILE.npz',
       help='write the samples as the array arr_0')


def _add_job(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group('long jobs')
  add_ = group.add_argument
  add_('--cache', type=locations.written_work, metavar='DIR',
       help='features of samples, from which an interrupted job continues, and '
       'statistics of real clips; WORKDIR/evaluation by default')
  add_('--follow', action='store_true',
       help='score every checkpoint that a training run writes, until its '
       'last; scores go to its TensorBoard and metrics.jsonl')
  add_('--poll', type=values.positive, default=30.0, metavar='SECONDS',
       help='how often --follow looks for a new checkpoint (30)')


def _add_pairs(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
      '--lpips', type=values.separated(locations.read), default=[],
      metavar='BACKBONE[,HEADS]',
      help="LPIPS beside, with torchvision's AlexNet or VGG16 in a file; the "
      'heads are those of the package lpips unless given')


_GROUPS = dict(
    pairs=_add_pairs, measure=_add_measure, drawing=_add_sampling,
    job=_add_job, chunks=sampling.add_chunks)
