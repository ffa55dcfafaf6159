"""Clips drawn from whole videos, as published scores draw their real clips."""
from collections.abc import Iterator, Sequence
import dataclasses
import functools
import os
import pathlib

import numpy as np

from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import pixels
from walt_jax.core import progress
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import frames as frames_lib
from walt_jax.data.storage import manifest as manifest_lib

# Parts of the seeds: of an epoch's order, of a clip, of a label.
_ORDER, _CLIP, _LABEL = 0, 1, 2


class Videos:
  """The videos of splits of a prepared set, every record a whole video.

  Attributes:
    path: Folder of the set.
    splits: Splits that were joined.
    lengths: Frames of each video, int [N].
    rates: Frames a second of each video, float [N].
    labels: Class of each video.
    codec: What they are stored in: one of `codecs.CODECS`.
    short_side: Shorter side of the smallest frames stored, in pixels.
  """

  def __init__(self, path: str | pathlib.Path, splits: Sequence[str]):
    """Opens the splits.

    Args:
      path: Folder that `walt data prepare` wrote.
      splits: Their names, in this order.

    Raises:
      errors.UserError: No such set or split, an empty one, or a set whose
        videos may have been cut into pieces.
    """
    self.path, self.splits = paths.path(path), tuple(splits)
    manifest = manifest_lib.read_manifest(path)
    self._parts = [dataset_lib.PreparedDataset(path, split, manifest)
                   for split in splits]
    tables = [part.index for part in self._parts]
    index = np.concatenate(tables)
    if not len(index):
      raise errors.UserError(
          f'{str(path)!r} has no videos in {"+".join(splits)}; prepare others')
    self.lengths = index['num_frames'].astype(int)
    self.rates = index['fps'].astype(float)
    self.codec = manifest['codec']
    cut = manifest.get('settings', {}).get('clip_frames')
    if cut is not None and self.lengths.max() >= cut:
      raise errors.UserError(
          f'{str(path)!r} was cut into clips of {cut} frames, where whole '
          f'videos are needed; prepare it with --clip_frames {10 * cut} or '
          'more than its longest video has')
    self._rows = [(number, row) for number, table in enumerate(tables)
                  for row in range(len(table))]
    classes = self._parts[0].classes
    self.labels = tuple(classes[label] for label in index['label'])
    self.short_side = int(min(index['height'].min(), index['width'].min()))

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, number: int) -> dict:
    """The example of a video; see `sources/source.py`."""
    part, row = self._rows[number]
    return self._parts[part][row]

  @functools.cached_property
  def by_name(self) -> np.ndarray:
    """Numbers of the videos, int [N], sorted by the names of their files.

    Reads the whole set once, since the names are in its records.
    """
    names = [os.path.basename(self[number]['key']) for number in progress.track(
        range(len(self)), 'names of videos', 'video', len(self))]
    return np.array(sorted(range(len(self)), key=names.__getitem__))


@dataclasses.dataclass(frozen=True)
class ClipForm:
  """What is cut out of a video.

  Attributes:
    num_frames: Frames of a clip, at a random offset.
    height: Rows of a clip.
    width: Columns of a clip.
    augment: Whether the crop is at a random place and half of the clips are
      mirrored, as in training; else the centre is cut out.
    rate: Frames a second; None takes neighbouring frames.
  """
  num_frames: int
  height: int
  width: int
  augment: bool
  rate: float | None = None


class VideoDraws:
  """Clips uint8 [T, H, W, 3], a function of the seed and their number alone.

  Attributes:
    numbers: Video of each clip, int [N].
    labels: Its class.
  """

  def __init__(self, videos: Videos, numbers: np.ndarray, first: int,
               seed: int, form: ClipForm):
    """Draws nothing yet.

    Args:
      videos: The videos.
      numbers: Video of each clip, int [N].
      first: Number of the first clip in the stream of the seed.
      seed: Random seed of offsets, crops and mirrors.
      form: What is cut out.
    """
    self._videos, self.numbers = videos, numbers
    self._first, self._seed, self._form = first, seed, form
    self.labels = tuple(videos.labels[number] for number in numbers)

  def __len__(self) -> int:
    return len(self.numbers)

  def __getitem__(self, index: int) -> np.ndarray:
    if not 0 <= index < len(self):
      raise IndexError(f'Clip {index} of {len(self)}.')
    form = self._form
    rng = np.random.default_rng((self._seed, _CLIP, self._first + index))
    example = self._videos[int(self.numbers[index])]
    frames = frames_lib.frame_indices(
        codecs.num_frames(example), example['fps'], form.num_frames,
        form.rate, rng)
    clip = codecs.read_clip(example, frames, form.height, form.width,
                            rng if form.augment else None)
    if form.augment and rng.integers(2):
      clip = pixels.mirror(clip)
    return clip

  def __iter__(self) -> Iterator[np.ndarray]:
    return (self[index] for index in range(len(self)))


def epochs(videos: Videos, first: int, count: int, seed: int,
           form: ClipForm) -> VideoDraws:
  """Clips [first, first + count) of a training iterator.

  Each epoch shows one clip of every video that is long enough, in an order
  of its own.
  """
  members = _long_enough(videos, form)
  numbers = np.empty(count, int)
  for epoch in range(first // len(members),
                     -(-(first + count) // len(members))):
    rng = np.random.default_rng((seed, _ORDER, epoch))
    start = epoch * len(members) - first
    order = rng.permutation(members)[max(0, -start):]
    start = max(0, start)
    numbers[start:start + len(order)] = order[:count - start]
  return VideoDraws(videos, numbers, first, seed, form)


def first_by_name(videos: Videos, count: int, seed: int,
                  form: ClipForm) -> VideoDraws:
  """One clip of each of the first `count` videos, by the names of files.

  Raises:
    errors.UserError: There are fewer that are long enough.
  """
  is_long = fits(videos, form)
  numbers = videos.by_name[is_long[videos.by_name]][:count]
  if len(numbers) < count:
    raise errors.UserError(
        f'{str(videos.path)!r} has {len(numbers)} videos of '
        f'{form.num_frames} frames or more, fewer than the {count} to draw; '
        'prepare all')
  return VideoDraws(videos, numbers, 0, seed, form)


def random_labels(videos: Videos, first: int, count: int,
                  seed: int) -> tuple[str, ...]:
  """Classes of videos drawn with replacement, numbers [first, first + count)
  of the stream of a seed."""
  return tuple(
      videos.labels[np.random.default_rng((seed, _LABEL, first + i)).integers(
          len(videos))] for i in range(count))


def fits(videos: Videos, form: ClipForm) -> np.ndarray:
  """Which videos hold a clip, bool [N]."""
  step = 1.0 if form.rate is None else videos.rates / form.rate
  needed = np.floor((form.num_frames - 1) * step + 0.5) + 1
  return videos.lengths >= needed


def _long_enough(videos: Videos, form: ClipForm) -> np.ndarray:
  members = np.flatnonzero(fits(videos, form))
  if not len(members):
    rate = '' if form.rate is None else f' at {form.rate:g}/s'
    raise errors.UserError(
        f'{str(videos.path)!r} has no video of {form.num_frames} frames{rate}; '
        f'the longest has {videos.lengths.max()}')
  return members
