"""The clips that a PATH of `walt evaluate` names, read one by one."""
from collections.abc import Iterator, Sequence
import os
import pathlib
from typing import Any, Protocol

import numpy as np

from walt_jax.core import errors
from walt_jax.core import fetched
from walt_jax.core import paths
from walt_jax.core import progress
from walt_jax.core import threads
from walt_jax.data import evaluation_clips
from walt_jax.evaluation import clip_arrays
from walt_jax.evaluation import clip_files
from walt_jax.evaluation import set_info
from walt_jax.media import decode
from walt_jax.media import samples

# Headers that are read at once, and those that may wait to be looked at.
_THREADS, _AHEAD = min(8, 2 * (os.cpu_count() or 1)), 64


class _Clips(Protocol):
  """Where the clips of a set come from."""

  def __len__(self) -> int:
    """How many there are."""

  def read(self, index: int, frames: int | None) -> np.ndarray:
    """Clip uint8 [T, H, W, 3]: its first frames, or all."""

  def info(self, index: int) -> set_info.ClipInfo:
    """What is known of a clip without decoding it."""


class ClipSet:
  """N clips of one frame size, uint8 [T, H, W, 3] each; read when asked for.

  Attributes:
    path: What was given.
    names: A file name or number for each clip, for messages.
    entries: What `samples.json` says of each clip; empty without that file.
    workdirs: Stages that drew them, from `samples.json`.
    split: Which split of a data set they are, or None where nothing says so.
    frames: First frames that are read of each clip; None is all.
  """

  def __init__(self, path: pathlib.Path, names: Sequence[str], clips: _Clips,
               frames: int | None, *,
               record: samples.SampleSet | None = None,
               split: str | None = None):
    self.path = path
    self.names = tuple(names)
    self.split = split
    self.entries = record.entries if record else ()
    self.workdirs = tuple(
        stage.workdir for stage in record.stages) if record else ()
    self._clips, self.frames = clips, frames
    self._shape: tuple[int | None, ...] | None = None

  def __len__(self) -> int:
    return len(self._clips)

  def __getitem__(self, index: int) -> np.ndarray:
    """Reads the first frames of a clip, or all; no more than these.

    Raises:
      errors.UserError: Damaged, too short, or of another size than others.
    """
    if not 0 <= index < len(self):
      raise IndexError(f'Clip {index} of {len(self)}.')
    clip = self._clips.read(index, self.frames)
    self._check(index, *clip.shape[:3])
    return clip

  def __iter__(self) -> Iterator[np.ndarray]:
    return (self[i] for i in range(len(self)))

  def stack(self) -> np.ndarray:
    """All clips at once, uint8 [N, T, H, W, 3]."""
    return np.stack(list(self))

  def info(self) -> set_info.SetInfo:
    """Looks at every clip's header, packets and first frame.

    Raises:
      errors.UserError: One is unreadable, too short, of another size than
        others, or damaged in what is read of it.
    """
    found = []
    clips = threads.map_ahead(self._clips.info, range(len(self)),
                              threads=_THREADS, ahead=_AHEAD)
    for index, clip in enumerate(progress.track(
        clips, f'check {self.path}', 'clip', len(self))):
      self._check_whole(index, clip)
      self._check(index, clip.frames, clip.height, clip.width)
      found.append(clip)
    return set_info.SetInfo.of(str(self.path), found)

  def clip_info(self, index: int) -> set_info.ClipInfo:
    """What is known of a clip without decoding it."""
    return self._clips.info(index)

  def length(self) -> int:
    """Frames of a clip: those asked for, or of the first one."""
    if self.frames is not None:
      return self.frames
    return self._clips.info(0).frames or len(self[0])

  def _check_whole(self, index: int, clip: set_info.ClipInfo) -> None:
    """Refuses damage and gaps in time between the frames that are read."""
    for place in clip.flaws:
      if self.frames is None or place.frame < self.frames:
        raise errors.UserError(
            f'clip {self.names[index]} of {self.path} cannot be scored: '
            f'{place}; give an intact file')

  def _check(self, index: int, frames: int | None, height: int,
             width: int) -> None:
    """Refuses a clip that does not go with the others before it."""
    name = f'clip {self.names[index]} of {self.path}'
    if self.frames is not None:
      if frames is not None and frames < self.frames:
        raise errors.UserError(
            f'{name} has {frames} frames, fewer than the {self.frames} to '
            f'score; give longer clips, or --frames {frames} or less')
      frames = None  # Longer ones may be unlike.
    shape = frames, height, width
    if self._shape is None:
      self._shape = shape
    for mine, other in zip(shape, self._shape, strict=True):
      if None not in (mine, other) and mine != other:
        raise errors.UserError(
            f'{name} is {_join(shape)} where others are '
            f'{_join(self._shape)}; bring all to one size (and give --frames '
            'for clips of unlike length)')


def open_clips(path: str | os.PathLike, *, frames: int | None = None
               ) -> ClipSet:
  """Opens a folder of clips or an array file.

  Args:
    path: A folder with `samples.json` (read through it, `.npy` only), a
      folder of videos, of images, of folders of numbered images (clips if
      `frames` is over 1) or of `.npy` clips, a single such file, or
      an `.npy` of uint8 [N, T, H, W, 3] or of images [N, H, W, 3], which are
      clips of one frame, or an `.npz` with such an array `arr_0`; or a set
      that `walt data prepare` wrote, `DIR[:SPLIT][:HEIGHTxWIDTH]`.
    frames: Only the first so many frames of each clip; of a prepared set, so
      many from its middle.

  What lies in a bucket is read from a local copy, but for a prepared set.

  Raises:
    errors.UserError: Nothing there, or not such clips.
  """
  path = paths.path(path)
  if paths.is_remote(path) and evaluation_clips.parse(path) is None:
    found = open_clips(fetched.local(path), frames=frames)
    found.path = path
    return found
  if clip_arrays.is_array(path):
    return of_array(str(path), clip_arrays.read(path), frames,
                    path.suffix.lower()[1:])
  if samples.is_sample_folder(path):
    record = samples.read_samples(path)
    if not record.entries:
      raise errors.UserError(f'{path} holds no samples; sample some first')
    stems = [entry.stem for entry in record.entries]
    files = _Files([path / f'{stem}.npy' for stem in stems], record.rate)
    return ClipSet(path, stems, files, frames, record=record)
  prepared = evaluation_clips.parse(path)
  if prepared is not None:
    folder, split, size = prepared
    clips = evaluation_clips.EvaluationClips(
        folder, split, num_frames=frames, size=size)
    return ClipSet(path, clips.names, _Prepared(clips), frames,
                   split=clips.split)
  if not path.is_dir():
    raise errors.UserError(
        f'no folder of clips at {path}; give a folder of videos, a set that '
        'walt data prepare wrote, or an .npy')
  named = clip_files.find(path, frame_folders=(frames or 1) > 1)
  return ClipSet(path, [str(file.relative_to(path)) for file in named],
                 _Files(named), frames)


def of_array(name: str, clips: np.ndarray, frames: int | None = None,
             container: str | None = None) -> ClipSet:
  """Clips uint8 [N, T, H, W, 3] of an array, of which `frames` are looked at.

  Args:
    name: What messages call the set; its path.
    clips: The array, in memory or mapped.
    frames: Only so many first frames of each clip; None is all.
    container: 'npy' or 'npz' of an array in a file.
  """
  return ClipSet(paths.path(name), [str(i) for i in range(len(clips))],
                 _Array(clips, container), frames)


class Part:
  """Clips [first, last) of a set."""

  def __init__(self, clips: Any, first: int, last: int):
    self._clips, self._first, self._last = clips, first, last

  def __len__(self) -> int:
    return self._last - self._first

  def __getitem__(self, index: int) -> np.ndarray:
    if not 0 <= index < len(self):
      raise IndexError(f'Clip {index} of {len(self)}.')
    return self._clips[self._first + index]


class _Array:
  """Clips of one array; nothing says at what rate they play."""

  def __init__(self, clips: np.ndarray, container: str | None):
    self._array, self._container = clips, container

  def __len__(self) -> int:
    return len(self._array)

  def read(self, index: int, frames: int | None) -> np.ndarray:
    """Copies what is asked for."""
    return np.array(self._array[index][:frames])

  def info(self, index: int) -> set_info.ClipInfo:
    """The array's shape."""
    del index  # All are alike.
    frames, height, width = self._array.shape[1:4]
    if self._container is None:
      return set_info.ClipInfo(height, width, frames)
    return set_info.ClipInfo(height, width, frames, codec='raw',
                             container=self._container, lossless=True)


class _Files:
  """A clip a file: videos, images, or `.npy`."""

  def __init__(self, files: Sequence[pathlib.Path], rate: float | None = None):
    """Reads nothing yet; `rate` is that of arrays, where it is known."""
    self._files, self._rate = files, rate

  def __len__(self) -> int:
    return len(self._files)

  def read(self, index: int, frames: int | None) -> np.ndarray:
    """Decodes what is asked for."""
    return decode.read_clip(self._files[index], first=frames, rest=False)

  def info(self, index: int) -> set_info.ClipInfo:
    """What the file says; of videos and images, the first frame too."""
    file = self._files[index]
    if file.suffix.lower() == '.npy':
      frames, height, width = decode.map_clip(file).shape[:3]
      return set_info.ClipInfo(
          height, width, frames, self._rate,
          self._rate and frames / self._rate, 'npy', 'raw', True)
    found = _probe(file)
    rate, duration = ((found.fps, found.duration) if found.is_timed else
                      (None, None))
    return set_info.ClipInfo(
        found.height, found.width, found.frames, rate, duration,
        found.container, found.codec, found.lossless,
        (*found.damage, *found.cuts))


def _probe(file: pathlib.Path) -> decode.VideoInfo:
  """What a file holds."""
  try:
    return decode.probe(file)
  except (decode.ClipError, OSError) as error:
    raise errors.UserError(
        f'cannot read {file} as a clip ({error}); give an intact file'
    ) from error


class _Prepared:
  """Clips of a set that `walt data prepare` wrote, one length and size."""

  def __init__(self, clips: evaluation_clips.EvaluationClips):
    self._clips = clips

  def __len__(self) -> int:
    return len(self._clips)

  def read(self, index: int, frames: int | None) -> np.ndarray:
    """Decodes the frames that the set was opened for."""
    del frames  # The same.
    return self._clips[index]

  def info(self, index: int) -> set_info.ClipInfo:
    """What the set's index and manifest say."""
    clips, (height, width) = self._clips, self._clips.size
    rate = float(clips.rates[index])
    return set_info.ClipInfo(
        height, width, clips.num_frames, rate or None,
        clips.num_frames / rate if rate else None, 'walt_dataset',
        clips.codec, clips.is_lossless)


def _join(shape: Sequence[int | None]) -> str:
  return 'x'.join(str(n) for n in shape if n is not None)
