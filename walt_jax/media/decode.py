"""The one reader of video and image files: to frames.

Decoding is PyAV (FFmpeg), and Pillow for images. Frames are uint8
[T, H, W, 3], RGB.
"""
from collections.abc import Iterator
import os

import numpy as np

from walt_jax.core import array_files
from walt_jax.core import errors
from walt_jax.core import fetched
from walt_jax.core import pixels
from walt_jax.media import containers
from walt_jax.media import images
from walt_jax.media import probing
from walt_jax.media import reader as reader_lib
from walt_jax.media import video_info

# Changes when a file comes to give other pixels, so that what was computed from
# earlier ones is not taken for what it gives now.
VERSION = 3

VIDEO_SUFFIXES = containers.SUFFIXES
IMAGE_SUFFIXES = images.SUFFIXES

ClipError = video_info.ClipError
Reader = reader_lib.Reader
Segment = video_info.Segment
Size = images.Size
VideoInfo = video_info.VideoInfo
is_image = images.is_image


def probe(path: str | os.PathLike) -> VideoInfo:
  """What a file holds, without decoding more than its first frame.

  Frames are counted and timed by their packets, which are all read; `damage` is
  what these tell, and `deinterlaced` is not known.

  Raises:
    ClipError: The file holds no video or image that can be read.
  """
  if is_image(str(path)) or os.path.isdir(path):
    return Reader(path).info
  return probing.probe_video(path)


def read_frames(path: str | os.PathLike, *, fps: float | None = None,
                size: Size | None = None, start: float | None = None,
                end: float | None = None, data: bytes | None = None
                ) -> tuple[VideoInfo, Iterator[np.ndarray]]:
  """Opens a video and returns its description and an iterator of its frames.

  The file must be whole; `Reader` also gives what is sound of others. Arguments
  are the reader's.

  Raises:
    ClipError: The file holds no video, or nothing of it can be decoded. Also
      from the iterator, when the file is damaged further on, or time jumps.
  """
  reader = Reader(path, fps=fps, size=size, start=start, end=end, data=data)
  return reader.info, _whole(reader)


def _whole(reader: Reader) -> Iterator[np.ndarray]:
  """Yields the frames of a file that must be whole."""
  for segment in reader.segments():
    yield from segment.frames
    for place in (*reader.info.damage, *reader.info.cuts):
      raise ClipError(f'damaged, or not one clip: {place}')


def read_clip(path: str | os.PathLike, *, fps: float | None = None,
              size: Size | None = None, first: int | None = None,
              last: int | None = None, rest: bool = True) -> np.ndarray:
  """Reads a video, an image, a folder of frames or an `.npy` array of frames.

  The whole file is decoded, whatever is kept of it, so that no damaged file
  passes for a good one; with `rest=False` no more than what is kept.

  Args:
    path: The file.
    fps: Frame rate, as in `read_frames`. An array has none and stays as it is.
    size: Size, as in `read_frames`; arrays stay as they are.
    first: Keeps so many frames, or all of a shorter clip; None keeps all.
    last: Keeps so many frames of the end instead.
    rest: Whether what follows the first frames is decoded, too.

  Returns:
    uint8 [T, H, W, 3].

  Raises:
    errors.UserError: No such file, not a clip, or damaged.
  """
  path = fetched.local(path)
  if not path.is_file() and not path.is_dir():
    raise errors.UserError(f'no such video: {path}')
  if path.suffix.lower() == '.npy' and path.is_file():
    clip = map_clip(path)  # What is not kept is not read.
    return np.array(clip[:first] if last is None else clip[-last:])
  try:
    reader = Reader(path, fps=fps, size=size)
    kept = (reader.last(last) if last is not None else
            reader.first(first, rest=rest))
  except ClipError as error:
    raise errors.UserError(
        f'cannot read {path} as a video ({error}); give an intact file'
    ) from error
  return np.stack(kept)


def read_image(path: str | os.PathLike) -> np.ndarray:
  """Reads one still image of any name, upright, as uint8 [H, W, 3].

  Raises:
    errors.UserError: No such file, not an image, or several pictures.
  """
  path = fetched.local(path)
  if not path.is_file():
    raise errors.UserError(f'no such image: {path}')
  try:
    return images.read(path)
  except ClipError as error:
    raise errors.UserError(
        f'cannot read {path} as an image ({error}); give a PNG or JPEG file '
        'of one picture'
    ) from error


def map_clip(path: str | os.PathLike) -> np.ndarray:
  """Opens an `.npy` clip uint8 [T, H, W, 3]; its pixels are not read yet.

  Raises:
    errors.UserError: Not such an array.
  """
  try:
    return pixels.check_clip(
        array_files.load(fetched.local(path), mmap_mode='r'),
        str(path))
  except (OSError, ValueError, EOFError) as error:
    raise errors.UserError(
        f'cannot read {path} as a clip ({" ".join(str(error).split())})'
    ) from None
