"""The one reader of video and image files: to frames.

Decoding is PyAV (FFmpeg), and Pillow for images. Frames are uint8
[T, H, W, 3], RGB.
"""
import collections
from collections.abc import Callable, Iterator
import dataclasses
import functools
import io
import itertools
import os
import pathlib
from typing import Any, BinaryIO

import av
from av import stream as av_stream
import numpy as np
from PIL import Image
from PIL import ImageOps

from walt_jax.core import errors
from walt_jax.core import pixels

# Maps height and width of a frame to those wanted.
Size = Callable[[int, int], tuple[int, int]]

# Changes when a file comes to give other pixels, so that what was computed from
# earlier ones is not taken for what it gives now.
VERSION = 2

_MAX_SIDE = 16384  # A larger frame is taken for damage.
_MAX_PIXELS = 1 << 27  # As is one with more pixels: 400 MB as RGB.
_MAY_LACK = 0.02  # Part of the frames promised that nobody misses.
_IMAGE_RATE = 1.0  # An image has no rate; its clip of one frame is given one.

VIDEO_SUFFIXES = frozenset(
    ('.avi', '.gif', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm'))
IMAGE_SUFFIXES = frozenset(
    ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'))
# PyAV before 19 refuses titles that are not UTF-8 unless it is told not to; 19
# reads them, and knows no such argument.
_OPENING: dict[str, Any] = (
    {} if int(av.__version__.partition('.')[0]) >= 19 else
    dict(metadata_errors='ignore'))
# What FFmpeg may take a file for. It would also draw text files as video, and
# follow playlists to other files.
_FORMATS = ','.join((
    'mov', 'matroska', 'avi', 'mpegts', 'mpeg', 'mpegvideo', 'flv', 'ogg',
    'asf', 'gif', 'apng', 'ivf', 'h264', 'hevc', 'm4v', 'mjpeg', 'rm', 'dv',
    'nut', 'wtv', 'mxf', 'swf', 'yuv4mpegpipe', 'av1', 'obu', '3dostr',
    'wav', 'mp3', 'flac', 'aac'))  # The last row for a better message.


class ClipError(Exception):
  """A video file that cannot be used; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class VideoInfo:
  """What a decoded stream turned out to be: frames/s as they are yielded."""
  fps: float
  height: int
  width: int


def is_image(name: str) -> bool:
  """Whether a file of this name is read as an image."""
  return pathlib.PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def read_frames(path: str | os.PathLike, *, fps: float | None = None,
                size: Size | None = None, start: float | None = None,
                end: float | None = None, data: bytes | None = None
                ) -> tuple[VideoInfo, Iterator[np.ndarray]]:
  """Opens a video and returns its description and an iterator of its frames.

  Args:
    path: A file that FFmpeg or Pillow can open.
    fps: Frames a second wanted. Each output time shows the frame that a player
      would show then, so that variable frame rates come out constant. None
      keeps every frame.
    size: Maps height and width of the upright frames to those wanted; None
      keeps the size.
    start: Seconds to skip.
    end: Seconds from the file's start where the clip ends.
    data: The bytes of the file, where they are not in `path`.

  Raises:
    ClipError: The file holds no video, or nothing of it can be decoded. Also
      from the iterator, when the file is damaged further on.
  """
  info, frames, to_rgb = _start_decoding(path, fps, size, start, end, data)
  return info, map(to_rgb, frames)


def read_clip(path: str | os.PathLike, *, fps: float | None = None,
              size: Size | None = None, first: int | None = None,
              last: int | None = None) -> np.ndarray:
  """Reads a video, an image (one frame) or an `.npy` array of frames.

  The whole file is decoded, whatever is kept of it, so that no damaged file
  passes for a good one.

  Args:
    path: The file.
    fps: Frame rate, as in `read_frames`. An array has none and stays as it is.
    size: Size, as in `read_frames`; arrays stay as they are.
    first: Keeps so many frames, or all of a shorter clip; None keeps all.
    last: Keeps so many frames of the end instead.

  Returns:
    uint8 [T, H, W, 3].

  Raises:
    errors.UserError: No such file, not a clip, or damaged.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.UserError(f'no such video: {path}')
  if path.suffix.lower() == '.npy':
    clip = _read_npy(path)
    return clip[:first] if last is None else clip[-last:]
  try:
    _, frames, to_rgb = _start_decoding(path, fps, size)
    if last is not None:
      kept = [to_rgb(frame) for frame in collections.deque(frames, last)]
    else:
      kept = [to_rgb(frame) for frame in itertools.islice(frames, first)]
      collections.deque(frames, 0)  # To the end, for damage.
  except ClipError as error:
    raise errors.UserError(
        f'cannot read {path} as a video ({error}); give an intact file'
    ) from error
  return np.stack(kept)


def read_image(path: str | os.PathLike) -> np.ndarray:
  """Reads one image file of any name, upright, as uint8 [H, W, 3].

  Raises:
    errors.UserError: No such file, or not an image.
  """
  if not pathlib.Path(path).is_file():
    raise errors.UserError(f'no such image: {path}')
  try:
    return _read_image(path)
  except ClipError as error:
    raise errors.UserError(
        f'cannot read {path} as an image ({error}); give a PNG or JPEG file'
    ) from error


def _start_decoding(path: str | os.PathLike, fps: float | None,
                    size: Size | None, start: float | None = None,
                    end: float | None = None, data: bytes | None = None
                    ) -> tuple[VideoInfo, Iterator[Any], Callable]:
  """Opens a file for `read_frames`.

  Returns:
    What it is, its frames as decoded, and the function that turns one of them
    into uint8 [H, W, 3].
  """
  if is_image(str(path)):
    image = _read_image(path if data is None else io.BytesIO(data), size)
    rate = _IMAGE_RATE if fps is None else fps
    return VideoInfo(rate, *image.shape[:2]), iter([image]), lambda x: x
  container = _open(path, data)
  stream = container.streams.video[0]
  rate = float(stream.average_rate or stream.guessed_rate or 0)
  decoded = _decode(container, stream, start, end)
  try:
    first = next(decoded)
  except StopIteration as error:
    container.close()
    raise ClipError('no frame could be decoded') from error
  height, width = first.height, first.width
  if max(height, width) > _MAX_SIDE or height * width > _MAX_PIXELS:
    container.close()
    raise ClipError(f'frames of {width}x{height} pixels are too large')
  if not rate or not np.isfinite(rate):
    rate = 25.0 if fps is None else fps
  shown = (width, height) if int(first.rotation) % 180 else (height, width)
  if size is not None:
    shown = size(*shown)
  resample = _resample(first, decoded, fps, 1 / rate)
  info = VideoInfo(fps if fps is not None else rate, *shown)
  return info, resample, functools.partial(
      _to_rgb, height=shown[0], width=shown[1])


def _open(path, data: bytes | None):
  """Opens a file that has a video stream."""
  file: str | BinaryIO = str(path)
  if data is not None:
    file = io.BytesIO(data)
  try:
    container = av.open(file, **_OPENING, options=dict(
        format_whitelist=_FORMATS, protocol_whitelist='file'))
  except av.error.ArgumentError as error:
    raise ClipError('not a format of videos that is read, as a playlist is '
                    'not') from error
  except (av.error.FFmpegError, OSError, ValueError) as error:
    raise ClipError(_reason(error)) from error
  streams = [stream for stream in container.streams.video
             if not stream.disposition & av_stream.Disposition.attached_pic]
  if not streams or streams[0] is not container.streams.video[0]:
    container.close()
    raise ClipError('no video stream')
  return container


def _reason(error: Exception) -> str:
  text = getattr(error, 'strerror', None) or str(error)
  return f'{type(error).__name__}: {text}'


def _decode(container, stream, start: float | None,
            end: float | None) -> Iterator[av.VideoFrame]:
  # Workers run in parallel; and threads would differ on damaged files.
  stream.thread_type = 'NONE'
  try:
    if start is None and end is None:
      yield from _whole(container, stream)
    else:
      yield from _segment(container, stream, start or 0.0, end)
  except av.error.EOFError:
    return
  except (av.error.FFmpegError, ValueError) as error:
    raise ClipError(f'damaged: {_reason(error)}') from error
  finally:
    container.close()


def _whole(container, stream) -> Iterator[av.VideoFrame]:
  """Yields all frames; FFmpeg is silent when a file ends too early."""
  count = 0
  for frame in container.decode(stream):
    yield frame
    count += 1
  if count + max(2, _MAY_LACK * stream.frames) < stream.frames:
    raise ClipError(f'damaged: ends after {count} of {stream.frames} frames')
  length = container.duration  # In microseconds.
  if count and not stream.frames and length and len(container.streams) == 1:
    last = frame.time or 0.0
    if (1 - _MAY_LACK) * length / av.time_base > last + 1.0:
      raise ClipError(f'damaged: ends after {last:.1f} of '
                      f'{length / av.time_base:.1f} seconds')


def _segment(container, stream, start: float,
             end: float | None) -> Iterator[av.VideoFrame]:
  """Yields the frames on show from `start` until before `end`."""
  origin = float((stream.start_time or 0) * stream.time_base)
  if start > 0:
    container.seek(int((origin + start) * av.time_base))
  for frame in container.decode(stream):
    time = (frame.time or 0.0) - origin
    if end is not None and time >= end - 1e-4:
      return
    if time >= start - 1e-4:
      yield frame


def _resample(first: av.VideoFrame, rest: Iterator[av.VideoFrame],
              fps: float | None, duration: float) -> Iterator[av.VideoFrame]:
  """Yields the frame on show at each tick of `fps`."""
  if fps is None:
    yield first
    yield from rest
    return
  start = first.time or 0.0
  shown, ticks, time = first, 0, 0.0
  for count, frame in enumerate(rest, start=1):
    known = frame.time
    time = count * duration if known is None else known - start
    # A small tolerance keeps equal rates from dropping frames to rounding.
    while ticks / fps < time - 1e-4:
      yield shown
      ticks += 1
    shown = frame
  while ticks / fps < time + duration - 1e-4:  # The last frame lasts, too.
    yield shown
    ticks += 1


def _to_rgb(frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
  turns = int(frame.rotation) // 90 % 4
  if turns % 2:
    height, width = width, height
  image = frame.reformat(width=width, height=height, format='rgb24',
                         interpolation='BICUBIC').to_ndarray()
  return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _read_image(file: str | os.PathLike | BinaryIO,
                size: Size | None = None) -> np.ndarray:
  """Reads an image upright, as `size(height, width)` says."""
  try:
    with Image.open(file) as image:
      width, height = image.size
      if max(width, height) > _MAX_SIDE or width * height > _MAX_PIXELS:
        raise ClipError(f'frames of {width}x{height} pixels are too large')
      upright = ImageOps.exif_transpose(image).convert('RGB')
  except (OSError, ValueError, SyntaxError,
          Image.DecompressionBombError) as error:
    raise ClipError(_reason(error)) from error
  if size is not None:
    height, width = size(upright.height, upright.width)
    if (height, width) != (upright.height, upright.width):
      upright = upright.resize((width, height), Image.Resampling.BICUBIC)
  return np.asarray(upright)


def _read_npy(path: pathlib.Path) -> np.ndarray:
  try:
    return pixels.check_clip(np.load(path, allow_pickle=False), str(path))
  except (OSError, ValueError, EOFError) as error:
    raise errors.UserError(
        f'cannot read {path} as a clip ({" ".join(str(error).split())})'
    ) from None
