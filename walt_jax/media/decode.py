"""The one reader of video and image files: to frames.

Decoding is PyAV (FFmpeg), and Pillow for images. Frames are uint8
[T, H, W, 3], RGB.
"""
from collections.abc import Iterator
import dataclasses
import io
import os
import pathlib
from typing import BinaryIO

import av
from av import stream as av_stream
import numpy as np
from PIL import Image
from PIL import ImageOps

_MAX_SIDE = 16384  # A larger frame is taken for damage.
_MAX_PIXELS = 1 << 27  # As is one with more pixels: 400 MB as RGB.
_MAY_LACK = 0.02  # Part of the frames promised that nobody misses.
_IMAGE_RATE = 1.0  # An image has no rate; its clip of one frame is given one.

IMAGE_SUFFIXES = frozenset(
    ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'))
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


def short_side_size(height: int, width: int, side: int) -> tuple[int, int]:
  """Height and width after scaling the shorter one to `side`."""
  scale = side / min(height, width)
  return max(side, round(height * scale)), max(side, round(width * scale))


def is_image(name: str) -> bool:
  """Whether a file of this name is read as an image."""
  return pathlib.PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def read_frames(path: str | os.PathLike, *, fps: float | None = None,
                short_side: int | None = None, start: float | None = None,
                end: float | None = None, data: bytes | None = None
                ) -> tuple[VideoInfo, Iterator[np.ndarray]]:
  """Opens a video and returns its description and an iterator of its frames.

  Args:
    path: A file that FFmpeg or Pillow can open.
    fps: Frames a second wanted. Each output time shows the frame that a player
      would show then, so that variable frame rates come out constant. None
      keeps every frame.
    short_side: Pixels of the shorter side; None keeps the size.
    start: Seconds to skip.
    end: Seconds from the file's start where the clip ends.
    data: The bytes of the file, where they are not in `path`.

  Raises:
    ClipError: The file holds no video, or nothing of it can be decoded. Also
      from the iterator, when the file is damaged further on.
  """
  size = lambda height, width: (height, width) if short_side is None else (
      short_side_size(height, width, short_side))
  if is_image(str(path)):
    image = _read_image(path if data is None else io.BytesIO(data), size)
    rate = _IMAGE_RATE if fps is None else fps
    return VideoInfo(rate, *image.shape[:2]), iter([image])
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
  turned = int(first.rotation) % 180 != 0
  shown = size(*((width, height) if turned else (height, width)))
  resample = _resample(first, decoded, fps, 1 / rate)
  info = VideoInfo(fps if fps is not None else rate, *shown)
  return info, (_to_rgb(frame, *shown) for frame in resample)


def _open(path, data: bytes | None):
  """Opens a file that has a video stream."""
  file: str | BinaryIO = str(path)
  if data is not None:
    file = io.BytesIO(data)
  try:
    container = av.open(file, metadata_errors='ignore', options=dict(
        format_whitelist=_FORMATS, protocol_whitelist='file'))
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


def _read_image(file, size) -> np.ndarray:
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
  wanted = size(upright.height, upright.width)
  if wanted != (upright.height, upright.width):
    upright = upright.resize(wanted[::-1], Image.Resampling.BICUBIC)
  return np.asarray(upright)
