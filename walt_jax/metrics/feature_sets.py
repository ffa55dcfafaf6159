"""What a score needs of one set of clips: statistics, seldom the features."""
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
import contextlib
import dataclasses
import json
import os
from typing import Any
import zipfile

import jax
import numpy as np

from walt_jax.core import array_files
from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import json_kinds
from walt_jax.core import json_text
from walt_jax.core import made_by as made_by_lib
from walt_jax.core import moments as moments_lib
from walt_jax.core import paths
from walt_jax.metrics import feature_network
from walt_jax.metrics import video_features
from walt_jax.parallel import multihost

FORMAT = 1
_CONTENT_BYTES = 16
# What our files say of themselves.
_HEADER: json_kinds.Kind = {
    'frames': int, 'network': {'name': str, 'sha256': str},
    'preprocessing': str, 'content': str,
    'about?': Mapping[str, Any] | None}
_BLOCK = 512  # Features whose products are formed at once: few large ones.


@dataclasses.dataclass(frozen=True)
class FeatureSet:
  """Statistics of one set of clips; reusable for many comparisons.

  Attributes:
    moments: Mean and scatter of the features.
    frames: Frames scored of each clip.
    network: Name, source and sha256 of the feature network.
    preprocessing: Name of the way from uint8 clip to the network's input.
    others: Statistics of further outputs, such as sFID's.
    kept: Outputs [N, D] themselves, in the order of the clips, of those that
      were asked for.
    content: Hash of the clips' pixels, whatever their order; '' where only
      statistics are known.
    is_external: Statistics of another program: of unknown number, already
      divided.
    about: What is known of the clips, JSON values, to be kept with them.
  """
  moments: moments_lib.Moments
  frames: int
  network: dict[str, str]
  preprocessing: str = video_features.PREPROCESSING
  others: Mapping[str, moments_lib.Moments] = dataclasses.field(
      default_factory=dict)
  kept: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  content: str = ''
  is_external: bool = False
  about: Mapping[str, Any] | None = None

  @property
  def count(self) -> int:
    return self.moments.count

  def save(self, path: str | os.PathLike,
           made_by: made_by_lib.MadeBy | None = None) -> None:
    """Writes an `.npz` that `load` reads, whole or not at all."""
    arrays = {}
    for name, moments in {'': self.moments, **self.others}.items():
      for field in dataclasses.fields(moments):
        arrays[f'{name}.{field.name}'] = getattr(moments, field.name)
    header = dict(format=FORMAT, frames=self.frames, network=self.network,
                  preprocessing=self.preprocessing, content=self.content,
                  about=self.about)
    with files.replaced_file(path) as partial:
      with open(partial, 'wb') as file:
        np.savez(file, header=json.dumps(header), **arrays)
      if made_by is not None:
        made_by.into_npz(partial)


def is_statistics(path: str | os.PathLike) -> bool:
  """Whether a file holds statistics, ours or of another program."""
  if paths.path(path).suffix != '.npz':
    return False
  with _reading(path), files.opened(path) as raw:
    if not zipfile.is_zipfile(raw):
      return False
    raw.seek(0)
    with np.load(raw, allow_pickle=False) as file:
      return 'header' in file or {'mu', 'sigma'} <= set(file.files)


@contextlib.contextmanager
def _reading(path: str | os.PathLike) -> Iterator[None]:
  """Makes a UserError of whatever a damaged file leads to."""
  try:
    with array_files.explained():
      yield
  except (OSError, ValueError) as error:
    raise errors.UserError(
        f'cannot read {os.fspath(path)!r} ({errors.words(error)}); it may be '
        'damaged: compute it anew') from error


def read_about(path: str | os.PathLike) -> dict[str, Any] | None:
  """What a file of statistics says of its clips; None where it says nothing."""
  with _reading(path), files.opened(path) as raw, np.load(
      raw, allow_pickle=False) as file:
    if 'header' not in file:
      return None
    return _header(file['header']).get('about')


def _header(text: np.ndarray) -> dict[str, Any]:
  """What our files say of themselves; raises ValueError where they do not."""
  header = json_text.loads(str(text))
  json_kinds.check(header, _HEADER, 'header')
  return header


def load(path: str | os.PathLike, *, network: Mapping[str, str],
         preprocessing: str) -> FeatureSet:
  """Reads statistics for a comparison with sets of this network.

  Ours say what network they are of; those of pytorch-fid and
  guided-diffusion (`mu`, `sigma`, `mu_s`, `sigma_s`) do not, and are taken to
  be InceptionV3's.

  Raises:
    errors.UserError: Statistics of another network or preprocessing.
  """
  with _reading(path), files.opened(path) as raw:
    arrays = array_files.read_members(raw, left_out=('arr_0',))
    if 'header' not in arrays:
      return _external(path, arrays, network, preprocessing)
    return _own(path, arrays, network, preprocessing)


def _own(path, arrays, network, preprocessing) -> FeatureSet:
  header = _header(arrays.pop('header'))
  for name, wanted in (('network', dict(network)),
                       ('preprocessing', preprocessing)):
    if header[name] != wanted:
      raise errors.UserError(
          f'{path} holds statistics of another {name} '
          f'({_short(header[name])}) than {_short(wanted)}; compute them anew')
  named: dict[str, dict[str, Any]] = {}
  for key, value in arrays.items():
    output, _, field = key.rpartition('.')
    named.setdefault(output, {})[field] = value
  moments = {
      output: _checked(moments_lib.Moments(
          int(f['count']), f['mean'], f['scatter']))
      for output, f in named.items()}
  return FeatureSet(
      moments.pop(''), header['frames'], dict(network), preprocessing,
      others=moments, content=header['content'], about=header.get('about'))


def _checked(moments: moments_lib.Moments) -> moments_lib.Moments:
  """Raises ValueError for what are no moments of finite vectors."""
  mean, scatter = moments.mean, moments.scatter
  if (mean.ndim != 1 or scatter.shape not in (mean.shape, mean.shape * 2)
      or moments.count < 1 or not {mean.dtype.kind, scatter.dtype.kind} <= {'f'}
      or not (np.isfinite(mean).all() and np.isfinite(scatter).all())):
    raise ValueError(
        f'a mean of shape {list(mean.shape)} and a scatter of shape '
        f'{list(scatter.shape)} of {moments.count} vectors, or not finite')
  return moments


def _external(path, arrays, network, preprocessing) -> FeatureSet:
  if not network['name'].startswith('inception-v3'):
    raise errors.UserError(
        f'{path} holds statistics of InceptionV3, not of {network["name"]}; '
        'give its weights with --network')

  def moments(mean: str, covariance: str) -> moments_lib.Moments:
    # As of two features: divided by N - 1 = 1, it is what the file says.
    return _checked(moments_lib.Moments(
        2, np.asarray(arrays[mean], np.float64),
        np.asarray(arrays[covariance], np.float64)))

  others = {}
  if 'mu_s' in arrays:
    others[feature_network.SPATIAL] = moments('mu_s', 'sigma_s')
  return FeatureSet(moments('mu', 'sigma'), 1, dict(network), preprocessing,
                    others=others, is_external=True)


def _short(value: Any) -> str:
  if isinstance(value, Mapping):
    return f'{value["name"]} {value["sha256"][:12]}'
  return str(value)


class Collector:
  """Adds up outputs of a network as they come; partial sums may be merged."""

  def __init__(self, network: feature_network.FeatureNetwork,
               keep: Sequence[str] = ()):
    self._network, self._keep = network, tuple(keep)
    self._moments = {
        name: moments_lib.Moments.empty(width)
        for name, width in network.widths.items()
        if name != feature_network.LOGITS}
    self._pending: dict[str, list[np.ndarray]] = {
        name: [] for name in self._moments}
    self._num_pending = 0
    self._kept: dict[str, list[np.ndarray]] = {name: [] for name in keep}
    self._content = 0
    self.frames = 0

  def add(self, outputs: feature_network.Outputs, content: int) -> None:
    """Adds a batch; `content` is the sum of its clips' digests."""
    for name, parts in (*self._pending.items(), *self._kept.items()):
      parts.append(outputs[name])
    self._num_pending += len(outputs[feature_network.FEATURES])
    if self._num_pending >= _BLOCK:
      self._flush()
    self._content = (self._content + content) % 2 ** (8 * _CONTENT_BYTES)

  def _flush(self) -> None:
    """Adds what has come since the last time to the statistics."""
    if self._num_pending:
      for name, parts in self._pending.items():
        self._moments[name] = self._moments[name].add(np.concatenate(parts))
        parts.clear()
    self._num_pending = 0

  def finish(self, *, chunk: int = 1) -> FeatureSet:
    """The statistics of all clips, of every process where there are more.

    Args:
      chunk: Process p of P added clips chunk p .. chunk (p + 1) - 1, then
        those P chunks further on, and so on: kept outputs are put in order.
    """
    self._flush()
    moments, kept = self._moments, {
        name: (np.concatenate(parts) if parts else
               np.zeros((0, self._network.widths[name]), np.float32))
        for name, parts in self._kept.items()}
    content, frames = self._content, self.frames
    if jax.process_count() > 1:
      moments = {name: multihost.merge(m) for name, m in moments.items()}
      kept = {name: multihost.interleave(v, chunk) for name, v in kept.items()}
      content = multihost.total(content) % 2 ** (8 * _CONTENT_BYTES)
      frames = multihost.largest(frames)
    main = moments[feature_network.FEATURES]
    if not main.count:
      raise ValueError('A score of an empty set of clips.')
    others = {name: m for name, m in moments.items()
              if name != feature_network.FEATURES}
    return FeatureSet(
        main, frames, dataclasses.asdict(self._network.info),
        self._network.preprocessing, others=others, kept=kept,
        content=f'{content:0{2 * _CONTENT_BYTES}x}')


def content_of(clips: Iterable[np.ndarray]) -> int:
  """Sum of the digests of clips."""
  return sum(int.from_bytes(feature_network.digest(clip), 'little')
             for clip in clips)


def joint_content(sets: Sequence[FeatureSet]) -> str:
  """The `content` of sets together; that of one where they are the same."""
  contents = list(dict.fromkeys(each.content for each in sets))
  if len(contents) == 1:
    return contents[0]
  joint = sum(int(content, 16) for content in contents)
  return f'{joint % 2 ** (8 * _CONTENT_BYTES):0{2 * _CONTENT_BYTES}x}'


def collect(
    clips: Iterable[np.ndarray], network: feature_network.FeatureNetwork, *,
    frames: int | None = None, keep: Sequence[str] = (),
    label: str = 'features') -> FeatureSet:
  """Streams clips through the network; keeps their statistics.

  With several processes each takes every P-th clip and all return the same.

  Args:
    clips: uint8 [N, T, H, W, 3], or an iterable of [T, H, W, 3] of one shape.
    network: Network that computes the features.
    frames: First frames to score; None is `video_features.scored_frames`.
    keep: Outputs to keep, for scores that need more than statistics.
    label: Text of the progress bar.

  Raises:
    ValueError: Another type or shape, or too few frames for the network.
  """
  checked = _Checked(clips, network, frames)
  collector = Collector(network, keep)
  for outputs in network.batches(checked, total=checked.total, label=label):
    collector.add(outputs, checked.take_content())
  collector.frames = checked.frames
  return collector.finish()


class _Checked:
  """Iterates over this process's clips, checked and cut to what is scored."""

  def __init__(self, clips: Iterable[np.ndarray],
               network: feature_network.FeatureNetwork, frames: int | None):
    self.frames = frames or 0
    self._clips, self._network, self._wanted = clips, network, frames
    self._content = 0
    self.total = None
    if isinstance(clips, Sized):
      self.total = len(range(jax.process_index(), len(clips),
                             jax.process_count()))

  def take_content(self) -> int:
    content, self._content = self._content, 0
    return content

  def __iter__(self) -> Iterator[np.ndarray]:
    shape = None
    for clip in self._mine():
      clip = np.asarray(clip)
      if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3:
        raise ValueError(f'Clips must be uint8 [T, H, W, 3], got {clip.dtype} '
                         f'{clip.shape}.')
      count = video_features.scored_frames(len(clip), self._wanted)
      check_frames(self._network, count, len(clip))
      clip = clip[:count]
      if shape is None:
        shape, self.frames = clip.shape, count
      if clip.shape != shape:
        raise ValueError(f'Clips of unlike shapes: {shape} and {clip.shape}.')
      self._content += content_of([clip])
      yield clip

  def _mine(self) -> Iterator[np.ndarray]:
    first, step = jax.process_index(), jax.process_count()
    if isinstance(self._clips, Sized) and hasattr(self._clips, '__getitem__'):
      return (self._clips[i] for i in range(first, len(self._clips), step))
    return (clip for i, clip in enumerate(self._clips) if i % step == first)


def check_frames(network: feature_network.FeatureNetwork, count: int,
                 length: int) -> None:
  """Raises ValueError unless `count` of a clip's frames can be scored."""
  name = network.info.name
  if count < network.min_frames or length < count:
    raise ValueError(
        f'A clip of {length} frames cannot be scored on {count}; {name} '
        f'needs at least {network.min_frames} frames.')
  if network.num_frames not in (None, count):
    raise ValueError(
        f'A clip of {count} frames cannot be scored; {name} takes '
        f'{network.num_frames}.')
