"""FVD, FID and IS of clips on disk: opened, checked and scored."""
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
from walt_jax.core import run_files
from walt_jax.data import evaluation_clips
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import requests as requests_lib
from walt_jax.media import decode
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


def score(request: requests_lib.EvaluationRequest) -> dict[str, Any]:
  """Scores `--generated` against `--real`."""
  plan = Plan.of(request)
  generated = open_clips(request, 'generated')
  frames = _frames(plan, generated)
  repeats = _repeats(plan.protocol, len(generated))
  each = len(generated) // repeats
  network = plan.network(is_video=len(generated[0]) > 1 and
                         request.frames != 1)
  real = None if plan.metric == 'is' else Real.open(request, network)
  plan.check(network, real, num_generated=each, repeats=repeats,
             frames=frames)
  if real is not None:
    real.check_size(generated)
  generated = clip_sets.open_clips(request.generated, frames=frames)
  check_lengths(network, generated, frames)
  sets = [
      plan.collect(clip_sets.Part(generated, i * each, (i + 1) * each),
                   network, frames,
                   'generated' if repeats == 1 else f'generated, set {i + 1}')
      for i in range(repeats)]
  reference = real and real.feature_set(plan, network, frames)
  return plan.result(reference, sets, network) | dict(
      real_split=request.measure.real_split or (real and real.split))


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be measured, and under which protocol.

  Attributes:
    request: Names the metric: 'fvd', 'fid' or 'is'.
    protocol: Its conditions.
    also: Scores beside.
  """
  request: requests_lib.EvaluationRequest
  protocol: protocols.Protocol
  also: tuple[str, ...]

  @property
  def metric(self) -> str:
    """'fvd', 'fid' or 'is'."""
    return self.request.metric

  @classmethod
  def of(cls, request: requests_lib.EvaluationRequest) -> 'Plan':
    """Looks the protocol up and checks that it is for the metric."""
    protocol, measure = protocols.get(request.protocol), request.measure
    also = tuple(dict.fromkeys((*protocol.also, *measure.also)))
    allowed = dict(fvd=('kvd', 'precision_recall'), fid=tuple(scores.BESIDE))
    for name in also:
      if name not in allowed.get(request.metric, ()):
        raise errors.UserError(
            f'--also {name}: not beside {request.metric}; choose of '
            f'{", ".join(allowed.get(request.metric, ())) or "none"}')
    if protocol.metric not in (None, request.metric):
      raise errors.UserError(
          f'protocol {protocol.name} is for {protocol.metric}, not '
          f'{request.metric}; use --protocol quick')
    if (protocol.preprocessing and measure.preprocessing
        and measure.preprocessing != protocol.preprocessing):
      raise errors.UserError(
          f'protocol {protocol.name} preprocesses by '
          f'{protocol.preprocessing}, not {measure.preprocessing}; leave '
          '--preprocessing out or use --protocol quick')
    return cls(request, protocol, also)

  def network(self, *, is_video: bool,
              devices: Sequence[Any] | None = None) -> Any:
    """Loads the feature network that the request names."""
    request = self.request
    name = request.measure.preprocessing or self.protocol.preprocessing
    files = request.network.split(',') if request.network else []
    form: dict[str, Any] = dict(
        devices=devices or local_devices(), batch_size=batch_size(request))
    if self.metric == 'fvd':
      return video_features.load_network(
          request.network, preprocessing=name or video_features.PREPROCESSING,
          **video_form(request, devices))
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

  def check(self, network, real: 'Real | None', *,
            num_generated: int | None, repeats: int, frames: int) -> None:
    """Refuses what the protocol or the network does not allow, before work."""
    self._check_outputs(network)
    measure = self.request.measure
    known = real.split if real else None
    if measure.real_split and known not in (None, measure.real_split):
      raise errors.UserError(
          f'--real_split {measure.real_split}: {self.request.real} says that '
          f'it is the split {known!r}; leave --real_split out')
    protocols.check(self.protocol, protocols.Conditions(
        self.metric, num_generated, repeats,
        num_real=None if real is None else real.count,
        real_split=measure.real_split or known,
        frames=frames, given_frames=measure.given_frames,
        network=network.info.name,
        real_is_reference=bool(real and real.is_external)))

  @property
  def options(self) -> scores.Options:
    """How sets of features are scored."""
    measure = self.request.measure
    return scores.Options(self.protocol, self.also, measure.resamples,
                          measure.num_splits, self.request.seed)

  @property
  def keep(self) -> tuple[str, ...]:
    """Outputs of which more than statistics is needed."""
    if self.metric == 'is':
      return (feature_network.LOGITS,)
    return self.options.keep()

  def collect(self, clips, network, frames, label: str) -> Any:
    """Streams clips through the network."""
    return feature_sets.collect(clips, network, frames=frames,
                                keep=self.keep, label=label)

  def _check_outputs(self, network) -> None:
    wanted = set(self.keep)
    if 'sfid' in self.also:
      wanted.add(feature_network.SPATIAL)
    missing = sorted(wanted - set(network.widths))
    if missing:
      raise errors.UserError(
          f'{network.info.name} has no {missing[0]} output; leave the score '
          'that needs it out of --also')

  def result(self, real, generated, network) -> dict[str, Any]:
    """The finished result."""
    name = self.metric
    if network.info.name == 'efficientnet-lite0':
      name = f'{name}-{network.info.name}'
    if self.metric == 'is':
      result = scores.inception_result(name, generated, self.options)
    else:
      result = scores.frechet_result(name, real, generated, self.options)
    return result | dict(given_frames=self.request.measure.given_frames)


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
  def open(cls, request: requests_lib.EvaluationRequest,
           network) -> 'Real':
    """Opens `request.real`."""
    if request.real is None:
      raise errors.UserError(f'{request.metric} needs --real PATH')
    if _is_statistics(request.real):
      return cls(request.real, None, feature_sets.load(
          request.real, network=dataclasses.asdict(network.info),
          preprocessing=network.preprocessing))
    return cls(request.real, open_clips(request, 'real'), None)

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

  def feature_set(self, plan: Plan, network, frames: int) -> Any:
    """Its statistics, read again where they were computed before."""
    if self.statistics is not None:
      return self._of_file(plan, network, frames)
    clips = clip_sets.open_clips(self.path, frames=frames)
    check_lengths(network, clips, frames)
    cached = self._cache_file(plan.request, network, frames)
    known = cached and cached.is_file() and not plan.keep
    if known:
      found = feature_sets.load(
          cached, network=dataclasses.asdict(network.info),
          preprocessing=network.preprocessing)
    else:
      found = plan.collect(clips, network, frames, 'real')
    for path in (None if known else cached,
                 plan.request.measure.save_statistics):
      if path and multihost.is_main():
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        found.save(path)
    return found

  def _of_file(self, plan, network, frames):
    found = self.statistics
    if found.frames != frames:
      raise errors.UserError(
          f'{self.path} holds statistics of {found.frames} frames, the '
          f'samples have {frames}; give --frames or other statistics')
    if not plan.keep:
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
        images, network, frames, 'reference').kept)

  def _cache_file(self, request, network, frames: int) -> pathlib.Path | None:
    folder = cache_folder(request)
    if folder is None:
      return None
    key = json.dumps([
        fingerprint(self.path), frames, network.info.name,
        network.info.sha256, network.preprocessing])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return folder / f'real_{name}.npz'


def _is_statistics(path: str) -> bool:
  return os.path.isfile(path) and feature_sets.is_statistics(path)


def cache_folder(request: requests_lib.EvaluationRequest
                 ) -> pathlib.Path | None:
  """Where features and statistics are kept, or None for nowhere."""
  if request.cache:
    return pathlib.Path(request.cache)
  if request.workdirs:
    return pathlib.Path(request.workdirs[-1]) / run_files.EVALUATION
  return None


def fingerprint(path: str) -> list[Any]:
  """Changes when a set does: names, sizes and times of files, their reader."""
  prepared = evaluation_clips.parse(path)  # Which split is in the path.
  root = (prepared[0] if prepared else pathlib.Path(path)).resolve()
  files = [root] if root.is_file() else sorted(
      file for file in root.rglob('*') if file.is_file())
  reader = [] if prepared else [decode.VERSION]
  return [str(path) if prepared else str(root), *reader, [
      (str(file.relative_to(root)), file.stat().st_size,
       file.stat().st_mtime_ns) for file in files]]


def open_clips(request: requests_lib.EvaluationRequest,
               name: str) -> clip_sets.ClipSet:
  """Opens the clips of `request.real` or `request.generated`."""
  path = getattr(request, name)
  if path is None:
    raise errors.UserError(f'{request.metric} needs --{name} PATH')
  return clip_sets.open_clips(path, frames=request.frames)


def _frames(plan: Plan, generated) -> int:
  """Frames that are scored, the same of every clip."""
  request = plan.request
  if request.frames is not None:
    return request.frames
  lengths = {len(generated[0])}
  if request.real is not None and plan.metric != 'is' and not (
      _is_statistics(request.real)):
    lengths.add(len(open_clips(request, 'real')[0]))
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


def batch_size(request: requests_lib.EvaluationRequest) -> int:
  """Clips that a device computes at once."""
  is_cpu = local_devices()[0].platform == 'cpu'
  return min(request.batch_size or (1 if is_cpu else _ACCELERATOR_BATCH),
             _MOST_AT_ONCE)


def video_form(request: requests_lib.EvaluationRequest,
               devices: Sequence[Any] | None = None) -> dict[str, Any]:
  """How I3D runs on the devices at hand."""
  devices = devices or local_devices()
  is_cpu = devices[0].platform == 'cpu'
  return dict(conv_form='stacked' if is_cpu else 'native',
              batch_size=batch_size(request), devices=devices)


def local_devices() -> list[Any]:
  """This process's devices, of the mesh that the program would make."""
  if jax.process_count() > 1:
    return jax.local_devices()
  return list(mesh_lib.make_mesh().devices.flat)


def size_of(clip: np.ndarray) -> str:
  """'17x32x32' of a clip [T, H, W, 3]."""
  return 'x'.join(map(str, clip.shape[:3]))


