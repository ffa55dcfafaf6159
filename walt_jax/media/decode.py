"""The one reader of video and image files: to frames.

Decoding is PyAV (FFmpeg), and Pillow for images. Frames are uint8
[T, H, W, 3], RGB.
"""
import collections
from collections.abc import Callable, Iterator
import dataclasses
import io
import itertools
import os
import pathlib
from typing import Any

import numpy as np

from walt_jax.core import errors
from walt_jax.core import pixels
from walt_jax.media import containers
from walt_jax.media import frame_folders
from walt_jax.media import image_clips
from walt_jax.media import images
from walt_jax.media import rgb
from walt_jax.media import timeline
from walt_jax.media import video_info

# Maps height and width of a frame to those wanted.
Size = Callable[[int, int], tuple[int, int]]

# Changes when a file comes to give other pixels, so that what was computed from
# earlier ones is not taken for what it gives now.
VERSION = 3

VIDEO_SUFFIXES = containers.SUFFIXES
IMAGE_SUFFIXES = images.SUFFIXES

ClipError = video_info.ClipError
Segment = video_info.Segment
VideoInfo = video_info.VideoInfo
is_image = images.is_image

_UNKNOWN_RATE = 25.0  # Of a file that tells none.


class Reader:
  """A file being read, segment by segment.

  Attributes:
    info: What is known of the file; `cuts`, `damage` and `deinterlaced` tell
      of what has been read so far.
  """

  def __init__(self, path: str | os.PathLike, *, fps: float | None = None,
               size: Size | None = None, start: float | None = None,
               end: float | None = None, data: bytes | None = None):
    """Opens a file; arguments and errors are those of `read_frames`."""
    self._fps = fps
    self._frames: Iterator[Any]  # As decoded, for `_to_rgb`.
    self._to_rgb: Callable[[Any], np.ndarray]
    if is_image(str(path)):
      self.info, self._frames = image_clips.open_file(
          path if data is None else io.BytesIO(data), fps=fps, size=size,
          start=start, end=end)
      self._to_rgb = lambda image: image
    else:
      self._open_video(path, size, start, end, data)

  def segments(self) -> Iterator[Segment]:
    """Yields the segments of the file, once.

    Raises:
      ClipError: Nothing more can be had from the file. Also from the frames of
        a segment.
    """
    yield Segment(0.0, map(self._to_rgb, self._frames))

  def first(self, count: int | None, *, rest: bool = True
            ) -> list[np.ndarray]:
    """The first frames, or all; decodes the rest, too, for damage.

    Args:
      count: How many, or None for all.
      rest: False leaves the rest unread.
    """
    kept = [self._to_rgb(frame)
            for frame in itertools.islice(self._frames, count)]
    if rest:
      collections.deque(self._frames, 0)
    return kept

  def last(self, count: int) -> list[np.ndarray]:
    """The last frames, or all of fewer."""
    return [self._to_rgb(frame)
            for frame in collections.deque(self._frames, count)]

  def close(self) -> None:
    """Closes the file; for one that is not read to its end."""
    close = getattr(self._frames, 'close', None)
    if close is not None:
      close()

  def _open_video(self, path, size: Size | None, start: float | None,
                  end: float | None, data: bytes | None) -> None:
    container = containers.open_video(path, data)
    stream = containers.choose_stream(container)
    info = _describe(container, stream)
    aspect = float(stream.sample_aspect_ratio or 1)
    decoded = timeline.decode(container, stream, start, end)
    first = next(decoded, None)
    if first is None:
      container.close()
      raise ClipError('no frame could be decoded')
    try:
      rgb.check_range(first.color_trc)
      shown = rgb.layout(first, aspect)
      video_info.check_size(shown.height, shown.width)
    except ClipError:
      container.close()
      raise
    rate = info.fps or self._fps or _UNKNOWN_RATE
    height, width = shown.height, shown.width
    if size is not None:
      height, width = size(height, width)
    self.info = dataclasses.replace(
        info, fps=self._fps or rate, height=height, width=width)
    self._frames = timeline.resample(first, decoded, self._fps, 1 / rate)
    self._to_rgb = lambda frame: rgb.convert(
        frame, rgb.layout(frame, aspect), height, width)


AnyReader = Reader | frame_folders.FolderReader


def open_clip(path: str | os.PathLike, *, fps: float | None = None,
              size: Size | None = None, start: float | None = None,
              end: float | None = None, data: bytes | None = None
              ) -> AnyReader:
  """Opens a video, an image or a folder of numbered images.

  Arguments and errors are those of `read_frames`.
  """
  if data is None and os.path.isdir(path):
    return frame_folders.FolderReader(
        path, fps=fps, size=size, start=start, end=end)
  return Reader(path, fps=fps, size=size, start=start, end=end, data=data)


def probe(path: str | os.PathLike) -> VideoInfo:
  """What a file holds, without decoding more than its first frame.

  Raises:
    ClipError: The file holds no video or image that can be read.
  """
  reader = open_clip(path)
  reader.close()
  return reader.info


def _describe(container, stream) -> VideoInfo:
  """What the headers of a video say."""
  rate = float(stream.average_rate or stream.guessed_rate or 0)
  if not np.isfinite(rate):
    rate = 0.0
  codec = stream.codec_context.codec
  seconds = None
  if stream.duration:
    seconds = float(stream.duration * stream.time_base)
  elif container.duration:
    seconds = container.duration / containers.TIME_BASE
  return VideoInfo(
      rate, stream.height, stream.width, duration=seconds,
      frames=stream.frames or None,
      container=containers.short_name(container), codec=codec.canonical_name,
      lossless=containers.is_lossless(stream))


def read_frames(path: str | os.PathLike, *, fps: float | None = None,
                size: Size | None = None, start: float | None = None,
                end: float | None = None, data: bytes | None = None
                ) -> tuple[VideoInfo, Iterator[np.ndarray]]:
  """Opens a video and returns its description and an iterator of its frames.

  Args:
    path: A file that FFmpeg or Pillow can open, or a folder of numbered images.
    fps: Frames a second wanted. Each output time shows the frame that a player
      would show then, so that variable frame rates come out constant. Images
      without times have this rate. None keeps every frame.
    size: Maps height and width of the upright frames, of square pixels, to
      those wanted; None keeps the size.
    start: Seconds to skip.
    end: Seconds from the file's start where the clip ends.
    data: The bytes of the file, where they are not in `path`.

  Raises:
    ClipError: The file holds no video, or nothing of it can be decoded. Also
      from the iterator, when the file is damaged further on.
  """
  reader = open_clip(path, fps=fps, size=size, start=start, end=end,
                     data=data)
  return reader.info, itertools.chain.from_iterable(
      segment.frames for segment in reader.segments())


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
  path = pathlib.Path(path)
  if not path.is_file() and not path.is_dir():
    raise errors.UserError(f'no such video: {path}')
  if path.suffix.lower() == '.npy' and path.is_file():
    clip = map_clip(path)  # What is not kept is not read.
    return np.array(clip[:first] if last is None else clip[-last:])
  try:
    reader = open_clip(path, fps=fps, size=size)
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
  if not pathlib.Path(path).is_file():
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
        np.load(path, mmap_mode='r', allow_pickle=False), str(path))
  except (OSError, ValueError, EOFError) as error:
    raise errors.UserError(
        f'cannot read {path} as a clip ({" ".join(str(error).split())})'
    ) from None
