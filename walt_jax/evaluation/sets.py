"""FVD, FID and IS of clips on disk: what the flags name, opened and checked."""
import argparse
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any
import warnings

import jax
import numpy as np

from walt_jax.core import errors
from walt_jax.data import evaluation_clips
from walt_jax.evaluation import clip_sets
from walt_jax.metrics import feature_network
from walt_jax.metrics import feature_sets
from walt_jax.metrics import image_features
from walt_jax.metrics import protocols
from walt_jax.metrics import scores
from walt_jax.metrics import video_features
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost

_ACCELERATOR_BATCH = 16
_MOST_AT_ONCE = 64  # Clips that a device gets, however large --batch_size.


def score(args: argparse.Namespace) -> dict[str, Any]:
  """Scores `--generated` against `--real`."""
  plan = Plan.of(args)
  generated = open_clips(args, 'generated')
  frames = _frames(args, plan, generated)
  repeats = _repeats(plan.protocol, len(generated))
  each = len(generated) // repeats
  network = plan.network(args, is_video=len(generated[0]) > 1 and
                         args.frames != 1)
  real = None if plan.metric == 'is' else Real.open(args, plan, network)
  plan.check(args, network, real, num_generated=each, repeats=repeats,
             frames=frames)
  if real is not None:
    real.check_size(generated)
  generated = clip_sets.open_clips(args.generated, frames=frames)
  check_lengths(network, generated, frames)
  options = plan.options(args)
  sets = [
      plan.collect(clip_sets.Part(generated, i * each, (i + 1) * each),
                   network, frames, options,
                   'generated' if repeats == 1 else f'generated, set {i + 1}')
      for i in range(repeats)]
  reference = real and real.feature_set(args, plan, network, frames, options)
  return plan.result(args, reference, sets, network) | dict(
      real_split=args.real_split or (real and real.split))


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be measured, and under which protocol.

  Attributes:
    metric: 'fvd', 'fid' or 'is'.
    protocol: Its conditions.
    also: Scores beside.
  """
  metric: str
  protocol: protocols.Protocol
  also: tuple[str, ...]

  @classmethod
  def of(cls, args: argparse.Namespace) -> 'Plan':
    protocol = protocols.get(args.protocol)
    also = tuple(dict.fromkeys((*protocol.also, *args.also)))
    allowed = dict(fvd=('kvd', 'precision_recall'), fid=tuple(scores.BESIDE))
    for name in also:
      if name not in allowed.get(args.metric, ()):
        raise errors.UserError(
            f'--also {name}: not beside {args.metric}; choose of '
            f'{", ".join(allowed.get(args.metric, ())) or "none"}')
    if protocol.metric not in (None, args.metric):
      raise errors.UserError(
          f'protocol {protocol.name} is for {protocol.metric}, not '
          f'{args.metric}; use --protocol quick')
    if (protocol.preprocessing and args.preprocessing
        and args.preprocessing != protocol.preprocessing):
      raise errors.UserError(
          f'protocol {protocol.name} preprocesses by '
          f'{protocol.preprocessing}, not {args.preprocessing}; leave '
          '--preprocessing out or use --protocol quick')
    return cls(args.metric, protocol, also)

  def network(self, args: argparse.Namespace, *, is_video: bool,
              devices: Sequence[Any] | None = None) -> Any:
    """Loads the feature network that the flags name."""
    name = args.preprocessing or self.protocol.preprocessing
    files = args.network.split(',') if args.network else []
    form: dict[str, Any] = dict(
        devices=devices or local_devices(), batch_size=batch_size(args))
    if self.metric == 'fvd':
      return video_features.load_network(
          args.network, preprocessing=name or video_features.PREPROCESSING,
          **video_form(args, devices))
    if self.metric == 'is' and is_video:
      if not files:
        raise errors.UserError(
            'the Inception Score of videos needs the weights of C3D; give '
            '--network WEIGHTS[,MEAN]')
      return image_features.load_c3d(*files, **form)
    if files:
      return image_features.load_inception(
          files[0], preprocessing=name or image_features.TF1_299, **form)
    if self.protocol.network:
      raise errors.UserError(
          f'protocol {self.protocol.name} is defined by '
          f'{self.protocol.network}; give its weights with --network FILE')
    warnings.warn(
        'no InceptionV3 weights (--network): scored with EfficientNet-Lite0 '
        'and called so; it is no FID or IS and stands beside no published '
        'number', stacklevel=2)
    return image_features.load_efficientnet(**form)

  def check(self, args: argparse.Namespace, network, real: 'Real | None', *,
            num_generated: int | None, repeats: int, frames: int) -> None:
    """Refuses what the protocol or the network does not allow, before work."""
    self._check_outputs(args, network)
    known = real.split if real else None
    if args.real_split and known not in (None, args.real_split):
      raise errors.UserError(
          f'--real_split {args.real_split}: {args.real} says that it is the '
          f'split {known!r}; leave --real_split out')
    protocols.check(self.protocol, protocols.Conditions(
        self.metric, num_generated, repeats,
        num_real=None if real is None else real.count,
        real_split=args.real_split or known,
        frames=frames, given_frames=args.given_frames,
        network=network.info.name,
        real_is_reference=bool(real and real.is_external)))

  def options(self, args: argparse.Namespace) -> Any:
    return scores.Options(self.protocol, self.also, args.interval,
                          args.splits, args.seed)

  def keep(self, options) -> tuple[str, ...]:
    """Outputs of which more than statistics is needed."""
    if self.metric == 'is':
      return (feature_network.LOGITS,)
    return options.keep()

  def collect(self, clips, network, frames, options, label: str) -> Any:
    """Streams clips through the network."""
    return feature_sets.collect(clips, network, frames=frames,
                                keep=self.keep(options), label=label)

  def _check_outputs(self, args, network) -> None:
    wanted = set(self.keep(self.options(args)))
    if 'sfid' in self.also:
      wanted.add(feature_network.SPATIAL)
    missing = sorted(wanted - set(network.widths))
    if missing:
      raise errors.UserError(
          f'{network.info.name} has no {missing[0]} output; leave the score '
          'that needs it out of --also')

  def result(self, args, real, generated, network) -> dict[str, Any]:
    """The finished result."""
    name = self.metric
    if network.info.name == 'efficientnet-lite0':
      name = f'{name}-{network.info.name}'
    options = self.options(args)
    if self.metric == 'is':
      result = scores.inception_result(name, generated, options)
    else:
      result = scores.frechet_result(name, real, generated, options)
    return result | dict(given_frames=args.given_frames)


class Real:
  """The real side: clips, or a file of statistics.

  Attributes:
    clips: A `ClipSet`, or None for statistics.
    statistics: Read from a file, or None.
    split: What the data set says it is, or None.
  """

  def __init__(self, path: str, clips, statistics):
    self.path, self.clips, self.statistics = path, clips, statistics
    self.split = getattr(clips, 'split', None)

  @classmethod
  def open(cls, args: argparse.Namespace, plan: Plan, network) -> 'Real':
    if args.real is None:
      raise errors.UserError(f'{args.metric} needs --real PATH')
    if os.path.isfile(args.real) and feature_sets.is_statistics(args.real):
      return cls(args.real, None, feature_sets.load(
          args.real, network=dataclasses.asdict(network.info),
          preprocessing=network.preprocessing))
    return cls(args.real, open_clips(args, 'real'), None)

  @property
  def is_external(self) -> bool:
    return self.statistics is not None and self.statistics.is_external

  @property
  def count(self) -> int | None:
    if self.clips is not None:
      return len(self.clips)
    return None if self.is_external else self.statistics.count

  def check_size(self, generated) -> None:
    """Clips of unlike sizes would be resized unlike."""
    if self.clips is not None and (
        self.clips[0].shape[1:] != generated[0].shape[1:]):
      raise errors.UserError(
          f'--real has frames of {size_of(self.clips[0])} and --generated of '
          f'{size_of(generated[0])}; bring both to one size')

  def feature_set(self, args, plan: Plan, network, frames: int,
                  options) -> Any:
    """Its statistics, read again where they were computed before."""
    if self.statistics is not None:
      return self._of_file(plan, network, frames, options)
    clips = clip_sets.open_clips(self.path, frames=frames)
    check_lengths(network, clips, frames)
    cached = self._cache_file(args, network, frames)
    known = cached and cached.is_file() and not plan.keep(options)
    if known:
      found = feature_sets.load(
          cached, network=dataclasses.asdict(network.info),
          preprocessing=network.preprocessing)
    else:
      found = plan.collect(clips, network, frames, options, 'real')
    for path in (None if known else cached, args.save_statistics):
      if path and multihost.is_main():
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        found.save(path)
    return found

  def _of_file(self, plan, network, frames, options):
    found = self.statistics
    if found.frames != frames:
      raise errors.UserError(
          f'{self.path} holds statistics of {found.frames} frames, the '
          f'samples have {frames}; give --frames or other statistics')
    if not plan.keep(options):
      return found
    # Guidance's reference files hold images beside the statistics.
    with np.load(self.path, allow_pickle=False) as file:
      has_images = 'arr_0' in file.files
    if not has_images:
      raise errors.UserError(
          f'{self.path} holds statistics alone; --also '
          f'{",".join(plan.also)} and --interval need real images or clips')
    images = clip_sets.open_clips(self.path)
    return dataclasses.replace(found, kept=plan.collect(
        images, network, frames, options, 'reference').kept)

  def _cache_file(self, args, network, frames: int) -> pathlib.Path | None:
    folder = cache_folder(args)
    if folder is None:
      return None
    key = json.dumps([
        fingerprint(self.path), frames, network.info.name,
        network.info.sha256, network.preprocessing])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return folder / f'real_{name}.npz'


def cache_folder(args: argparse.Namespace) -> pathlib.Path | None:
  """Where features and statistics are kept, or None for nowhere."""
  if args.cache:
    return pathlib.Path(args.cache)
  if args.workdir:
    return pathlib.Path(args.workdir[-1]) / 'evaluation'
  return None


def fingerprint(path: str) -> list[Any]:
  """Changes when a file of a set does: names, sizes and times."""
  prepared = evaluation_clips.parse(path)  # Which split is in the path.
  root = (prepared[0] if prepared else pathlib.Path(path)).resolve()
  files = [root] if root.is_file() else sorted(
      file for file in root.rglob('*') if file.is_file())
  return [str(path) if prepared else str(root), [
      (str(file.relative_to(root)), file.stat().st_size,
       file.stat().st_mtime_ns) for file in files]]


def open_clips(args: argparse.Namespace, name: str) -> clip_sets.ClipSet:
  """Opens what a flag names."""
  path = getattr(args, name)
  if path is None:
    raise errors.UserError(f'{args.metric} needs --{name} PATH')
  return clip_sets.open_clips(path, frames=args.frames)


def _frames(args: argparse.Namespace, plan: Plan, generated) -> int:
  """Frames that are scored, the same of every clip."""
  if args.frames is not None:
    return args.frames
  lengths = {len(generated[0])}
  if args.real is not None and plan.metric != 'is' and not (
      os.path.isfile(args.real) and feature_sets.is_statistics(args.real)):
    lengths.add(len(open_clips(args, 'real')[0]))
  if plan.protocol.frames:
    return plan.protocol.frames
  scored = {video_features.scored_frames(length) for length in lengths}
  if len(scored) > 1:
    raise errors.UserError(
        f'the sets have clips of {" and ".join(map(str, sorted(lengths)))} '
        'frames; give --frames N to score the first N of all')
  return scored.pop()


def check_lengths(network, clips, frames: int) -> None:
  """Refuses clips that the network cannot score."""
  try:
    feature_sets.check_frames(network, frames, len(clips[0]))
  except ValueError as error:
    raise errors.UserError(
        f'{clips.path}: {str(error).rstrip(".")}; give other --frames or '
        'other clips') from None


def _repeats(protocol: protocols.Protocol, count: int) -> int:
  """Sets that a protocol cuts the generated clips into."""
  wanted = protocol.num_generated
  if wanted and count == wanted * protocol.repeats:
    return protocol.repeats
  return 1


def batch_size(args: argparse.Namespace) -> int:
  """Clips that a device computes at once."""
  is_cpu = local_devices()[0].platform == 'cpu'
  return min(args.batch_size or (1 if is_cpu else _ACCELERATOR_BATCH),
             _MOST_AT_ONCE)


def video_form(args: argparse.Namespace,
               devices: Sequence[Any] | None = None) -> dict[str, Any]:
  """How I3D runs on the devices at hand."""
  devices = devices or local_devices()
  is_cpu = devices[0].platform == 'cpu'
  return dict(conv_form='stacked' if is_cpu else 'native',
              batch_size=batch_size(args), devices=devices)


def local_devices() -> list[Any]:
  """This process's devices, of the mesh that the program would make."""
  if jax.process_count() > 1:
    return jax.local_devices()
  return list(mesh_lib.make_mesh().devices.flat)


def size_of(clip: np.ndarray) -> str:
  """'17x32x32' of a clip [T, H, W, 3]."""
  return 'x'.join(map(str, clip.shape[:3]))


