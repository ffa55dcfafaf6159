"""The clips that a PATH of `walt evaluate` names, read one by one."""
from collections.abc import Iterator, Sequence
import os
import pathlib
import struct
from typing import Any
import zipfile

import numpy as np

from walt_jax.core import errors
from walt_jax.data import evaluation_clips
from walt_jax.media import decode
from walt_jax.media import samples

_ARRAY_SUFFIXES = ('.npy',)
_SAMPLES_KEY = 'arr_0'  # Of an `.npz`, as guidance's evaluator reads it.


class ClipSet:
  """N clips of one frame size, uint8 [T, H, W, 3] each; read when asked for.

  Attributes:
    path: What was given.
    names: A file name or number for each clip, for messages.
    entries: What `samples.json` says of each clip; empty without that file.
    workdirs: Stages that drew them, from `samples.json`.
    split: Which split of a data set they are, or None where nothing says so.
  """

  def __init__(self, path: pathlib.Path, names: Sequence[str],
               files: Sequence[pathlib.Path],
               array: np.ndarray | evaluation_clips.EvaluationClips | None,
               record: samples.SampleSet | None, frames: int | None):
    self.path = path
    self.names = tuple(names)
    self.split: str | None = None
    self.entries = record.entries if record else ()
    self.workdirs = tuple(
        stage.workdir for stage in record.stages) if record else ()
    self._files = files
    self._array = array
    self._frames = frames
    self._size: tuple[int, int] | None = None

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: int) -> np.ndarray:
    if not 0 <= index < len(self):
      raise IndexError(f'Clip {index} of {len(self)}.')
    if self._array is not None:
      return np.asarray(self._array[index][:self._frames])
    clip = decode.read_clip(self._files[index], first=self._frames)
    if self._frames is not None:
      if len(clip) < self._frames:
        raise errors.UserError(
            f'{self._files[index]} has {len(clip)} frames, fewer than the '
            f'{self._frames} to score; give --frames {len(clip)} or less')
    size = clip.shape[:3] if self._frames is None else clip.shape[1:3]
    if self._size is None:
      self._size = size
    if size != self._size:
      raise errors.UserError(
          f'{self._files[index]} is {"x".join(map(str, size))} where others '
          f'in {self.path} are {"x".join(map(str, self._size))}; bring all to '
          'one size (and give --frames for clips of unlike length)')
    return clip

  def __iter__(self) -> Iterator[np.ndarray]:
    return (self[i] for i in range(len(self)))

  def stack(self) -> np.ndarray:
    """All clips at once, uint8 [N, T, H, W, 3]."""
    return np.stack(list(self))


def open_clips(path: str | os.PathLike, *, frames: int | None = None
               ) -> ClipSet:
  """Opens a folder of clips or an array file.

  Args:
    path: A folder with `samples.json` (read through it, `.npy` only), a
      folder of videos, of images or of `.npy` clips, a single such file, or
      an `.npy` of uint8 [N, T, H, W, 3] or of images [N, H, W, 3], which are
      clips of one frame, or an `.npz` with such an array `arr_0`; or a set
      that `walt data prepare` wrote, `DIR[:SPLIT][:HEIGHTxWIDTH]`.
    frames: Only the first so many frames of each clip; of a prepared set, so
      many from its middle.

  Raises:
    errors.UserError: Nothing there, or not such clips.
  """
  path = pathlib.Path(path)
  if path.is_file() and path.suffix.lower() in ('.npy', '.npz'):
    return _open_array(path, frames)
  if samples.is_sample_folder(path):
    record = samples.read_samples(path)
    if not record.entries:
      raise errors.UserError(f'{path} holds no samples; sample some first')
    stems = [entry.stem for entry in record.entries]
    files = [path / f'{stem}.npy' for stem in stems]
    return ClipSet(path, stems, files, None, record, frames)
  prepared = evaluation_clips.parse(path)
  if prepared is not None:
    return _open_prepared(path, *prepared, frames)
  if not path.is_dir():
    raise errors.UserError(
        f'no folder of clips at {path}; give a folder of videos, a set that '
        'walt data prepare wrote, or an .npy')
  files = _clip_files(path)
  return ClipSet(path, [file.name for file in files], files, None, None,
                 frames)


def _open_prepared(path: pathlib.Path, folder: pathlib.Path,
                   split: str | None, size: tuple[int, int] | None,
                   frames: int | None) -> ClipSet:
  clips = evaluation_clips.EvaluationClips(
      folder, split, num_frames=frames, size=size)
  found = ClipSet(path, clips.names, (), clips, None, frames)
  found.split = clips.split
  return found


def _open_array(path: pathlib.Path, frames: int | None) -> ClipSet:
  try:
    array = (_open_npz(path) if path.suffix.lower() == '.npz' else
             np.load(path, mmap_mode='r', allow_pickle=False))
  except KeyError:
    raise errors.UserError(
        f'{path} has no array {_SAMPLES_KEY}; save the clips with '
        'numpy.savez(FILE, clips)') from None
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise errors.UserError(
        f'cannot read {path} as an array ({" ".join(str(error).split())}); '
        'save it with numpy.save') from None
  if array.dtype != np.uint8:
    raise errors.UserError(
        f'{path} holds {array.dtype} values; convert to uint8 in 0..255')
  if (array.ndim not in (4, 5) or array.shape[-1] != 3
      or 0 in array.shape):
    raise errors.UserError(
        f'{path} has shape {list(array.shape)}; it must be [N, T, H, W, 3], '
        'or [N, H, W, 3] of images, RGB (repeat a grey channel three times)')
  if array.ndim == 4:
    array = array[:, None]
  if frames is not None and array.shape[1] < frames:
    raise errors.UserError(
        f'{path} has {array.shape[1]} frames a clip, fewer than the {frames} '
        f'to score; give --frames {array.shape[1]} or less')
  names = [str(i) for i in range(len(array))]
  return ClipSet(path, names, (), array, None, frames)


def _open_npz(path: pathlib.Path) -> np.ndarray:
  """The array of clips; mapped, not read, where it is not compressed."""
  name = f'{_SAMPLES_KEY}.npy'
  with zipfile.ZipFile(path) as archive, archive.open(name) as member:
    info = archive.getinfo(name)
    version = np.lib.format.read_magic(member)
    read_header = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                   else np.lib.format.read_array_header_2_0)
    shape, is_fortran, dtype = read_header(member)
    header_bytes = member.tell()
  if (info.compress_type != zipfile.ZIP_STORED or is_fortran
      or dtype.hasobject or 0 in shape):
    with np.load(path, allow_pickle=False) as arrays:
      return arrays[_SAMPLES_KEY]
  with open(path, 'rb') as file:  # The member's own header in the archive.
    file.seek(info.header_offset + 26)
    lengths = struct.unpack('<HH', file.read(4))
  offset = info.header_offset + 30 + sum(lengths) + header_bytes
  return np.memmap(path, dtype, 'r', offset, shape)


def of_array(name: str, clips: np.ndarray,
             frames: int | None = None) -> ClipSet:
  """Clips uint8 [N, T, H, W, 3] in memory, of which `frames` are looked at."""
  return ClipSet(pathlib.Path(name), [str(i) for i in range(len(clips))], (),
                 clips, None, frames)


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


def _clip_files(folder: pathlib.Path) -> list[pathlib.Path]:
  kinds: dict[str, list[pathlib.Path]] = {}
  for file in sorted(folder.rglob('*')):
    suffix = file.suffix.lower()
    for kind, suffixes in (('videos', decode.VIDEO_SUFFIXES),
                           ('images', decode.IMAGE_SUFFIXES),
                           ('.npy files', _ARRAY_SUFFIXES)):
      if (suffix in suffixes and file.is_file()
          and not file.name.startswith('.')):
        kinds.setdefault(kind, []).append(file)
  if not kinds:
    raise errors.UserError(
        f'{folder} holds no videos, images or .npy clips; give another folder')
  if len(kinds) > 1:
    found = ', '.join(f'{len(files)} {kind}' for kind, files in kinds.items())
    raise errors.UserError(
        f'{folder} mixes {found}; keep one kind to a folder')
  (files,) = kinds.values()
  return files


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
