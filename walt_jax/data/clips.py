"""Video and image files to frames, and frames to clips.

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


def cut(frames: Iterator[np.ndarray], length: int, stride: int,
        min_frames: int) -> Iterator[np.ndarray]:
  """Cuts a stream of frames into clips [length, H, W, 3], `stride` apart.

  What is left at the end makes a shorter clip when it has at least
  `min_frames` frames that no earlier clip holds, or when it is the first.

  Raises:
    ClipError: As the stream does, after the clips that came before.
  """
  held: list[np.ndarray] = []
  skip = fresh = 0
  first = True
  damage = None
  while True:
    try:
      frame = next(frames, None)
    except ClipError as error:
      frame, damage = None, error
    if frame is None:
      break
    if skip:
      skip -= 1
      continue
    held.append(frame)
    fresh += 1
    if len(held) == length:
      yield np.stack(held)
      first = False
      fresh = 0
      held, skip = held[stride:], max(0, stride - length)
  if len(held) >= min_frames and (first or fresh >= min_frames):
    yield np.stack(held)
  if damage is not None:
    raise damage


def frame_indices(available: int, source_fps: float, num_frames: int,
                  fps: float | None, rng: np.random.Generator | None,
                  strides: tuple[int, ...] = (1,)) -> np.ndarray:
  """Picks `num_frames` frames out of `available`.

  Args:
    available: Frames of the example.
    source_fps: Their rate, frames/s.
    num_frames: Frames wanted.
    fps: Rate wanted; None takes neighbours.
    rng: Draws the offset and the stride; None takes the middle of the example
      and the first stride.
    strides: Multiples of the distance between frames to draw from; those that
      do not fit are left out.

  Returns:
    int [num_frames], increasing.

  Raises:
    ValueError: The example is too short for all strides.
  """
  step = 1.0 if fps is None else source_fps / fps
  fitting = [stride for stride in strides
             if span(num_frames, step * stride) <= available]
  if not fitting or (rng is None and strides[0] not in fitting):
    raise ValueError(
        f'{num_frames} frames at every {step * strides[0]:g}-th frame do not '
        f'fit in {available} frames.')
  stride = strides[0]
  if rng is not None and len(strides) > 1:
    stride = fitting[int(rng.integers(len(fitting)))]
  step *= stride
  slack = available - span(num_frames, step)
  start = slack // 2 if rng is None else int(rng.integers(slack + 1))
  return start + np.floor(np.arange(num_frames) * step + 0.5).astype(int)


def span(num_frames: int, step: float) -> int:
  """Frames from the first to the last of `num_frames`, `step` apart."""
  return int(np.floor((num_frames - 1) * step + 0.5)) + 1


def downsample(pixels: np.ndarray, factor: int) -> np.ndarray:
  """Means over factor x factor boxes of uint8 [..., H, W, 3], rounded."""
  *front, height, width, channels = pixels.shape
  if height % factor or width % factor:
    raise ValueError(f'{height}x{width} pixels do not divide by {factor}.')
  boxes = pixels.reshape(*front, height // factor, factor, width // factor,
                         factor, channels)
  return np.rint(boxes.mean(axis=(-4, -2), dtype=np.float32)).astype(np.uint8)
