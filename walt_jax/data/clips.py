"""Video files to frames, and frames to training clips.

Decoding is PyAV (FFmpeg). Frames are uint8 [T, H, W, 3], RGB.
"""
from collections.abc import Iterator, Sequence
import dataclasses
import io
import pathlib

import av
import numpy as np
from PIL import Image

_MAX_SIDE = 16384  # A larger frame is taken for damage.


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


def read_frames(path: str | pathlib.Path, *, fps: float | None = None,
                short_side: int | None = None
                ) -> tuple[VideoInfo, Iterator[np.ndarray]]:
  """Opens a video and returns its description and an iterator of its frames.

  Args:
    path: A file that FFmpeg can open.
    fps: Frames a second wanted. Each output time shows the frame that a player
      would show then, so that variable frame rates come out constant. None
      keeps every frame.
    short_side: Pixels of the shorter side; None keeps the size.

  Raises:
    ClipError: The file holds no video, or nothing of it can be decoded. Also
      from the iterator, when the file is damaged further on.
  """
  try:
    container = av.open(str(path), metadata_errors='ignore')
  except (av.error.FFmpegError, OSError, ValueError) as error:
    raise ClipError(_reason(error)) from error
  if not container.streams.video:
    container.close()
    raise ClipError('no video stream')
  stream = container.streams.video[0]
  rate = float(stream.average_rate or stream.guessed_rate or 0)
  decoded = _decode(container, stream)
  try:
    first = next(decoded)
  except StopIteration as error:
    container.close()
    raise ClipError('no frame could be decoded') from error
  height, width = first.height, first.width
  if max(height, width) > _MAX_SIDE:
    decoded.close()
    raise ClipError(f'frames of {width}x{height} pixels are too large')
  if not rate or not np.isfinite(rate):
    rate = 25.0 if fps is None else fps  # An image has no rate.
  turned = int(first.rotation) % 180 != 0
  shown = (width, height) if turned else (height, width)
  if short_side is not None:
    shown = short_side_size(*shown, short_side)
  resample = _resample(first, decoded, fps, 1 / rate)
  info = VideoInfo(fps if fps is not None else rate, *shown)
  return info, (_to_rgb(frame, *shown) for frame in resample)


def _reason(error: Exception) -> str:
  text = getattr(error, 'strerror', None) or str(error)
  return f'{type(error).__name__}: {text}'


def _decode(container, stream) -> Iterator[av.VideoFrame]:
  stream.thread_type = 'AUTO'
  try:
    yield from container.decode(stream)
  except av.error.EOFError:
    return
  except (av.error.FFmpegError, ValueError) as error:
    raise ClipError(f'damaged: {_reason(error)}') from error
  finally:
    container.close()


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


def cut(frames: Iterator[np.ndarray], length: int, stride: int,
        min_frames: int) -> Iterator[np.ndarray]:
  """Cuts a stream of frames into clips [length, H, W, 3], `stride` apart.

  What is left at the end makes a shorter clip when it has at least
  `min_frames` frames that no earlier clip holds, or when it is the first.
  """
  held: list[np.ndarray] = []
  skip = fresh = 0
  first = True
  for frame in frames:
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


def encode_frame(frame: np.ndarray, codec: str, quality: int) -> bytes:
  """Compresses one frame uint8 [H, W, 3] as 'jpeg' (4:4:4) or 'png'."""
  out = io.BytesIO()
  image = Image.fromarray(frame)
  if codec == 'jpeg':
    image.save(out, 'JPEG', quality=quality, subsampling=0)
  elif codec == 'png':
    image.save(out, 'PNG', compress_level=4)
  else:
    raise ValueError(f'Unknown codec {codec!r}: use "jpeg" or "png".')
  return out.getvalue()


def decode_frames(encoded: Sequence[bytes]) -> np.ndarray:
  """Reads compressed frames as uint8 [T, H, W, 3]."""
  return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))
                   for data in encoded])


def frame_indices(available: int, source_fps: float, num_frames: int,
                  fps: float | None, rng: np.random.Generator | None
                  ) -> np.ndarray:
  """Picks `num_frames` frames out of `available`.

  Args:
    available: Frames of the example.
    source_fps: Their rate, frames/s.
    num_frames: Frames wanted.
    fps: Rate wanted; None takes neighbours.
    rng: Draws the offset; None takes the middle of the example.

  Returns:
    int [num_frames], increasing.

  Raises:
    ValueError: The example is too short.
  """
  step = 1.0 if fps is None else source_fps / fps
  offsets = np.floor(np.arange(num_frames) * step + 0.5).astype(int)
  slack = available - 1 - int(offsets[-1])
  if slack < 0:
    raise ValueError(f'{num_frames} frames at every {step:g}-th frame do not '
                     f'fit in {available} frames.')
  start = slack // 2 if rng is None else int(rng.integers(slack + 1))
  return start + offsets


def fit(frames: np.ndarray, height: int, width: int,
        rng: np.random.Generator | None = None) -> np.ndarray:
  """Resizes uint8 [T, H, W, 3] to cover height x width, then crops.

  Args:
    frames: uint8 [T, H, W, 3].
    height: Rows wanted.
    width: Columns wanted.
    rng: Draws where to crop; None crops the centre.
  """
  _, rows, columns, _ = frames.shape
  if (rows, columns) == (height, width):
    return frames
  scale = max(height / rows, width / columns)
  new = max(height, round(rows * scale)), max(width, round(columns * scale))
  if new != (rows, columns):
    frames = np.stack([
        np.asarray(Image.fromarray(frame).resize(
            new[::-1], Image.Resampling.BICUBIC)) for frame in frames])
  spare = new[0] - height, new[1] - width
  if rng is None:
    top, left = spare[0] // 2, spare[1] // 2
  else:
    top, left = (int(rng.integers(s + 1)) for s in spare)
  return frames[:, top:top + height, left:left + width]


def downsample(pixels: np.ndarray, factor: int) -> np.ndarray:
  """Means over factor x factor boxes of uint8 [..., H, W, 3], rounded."""
  *front, height, width, channels = pixels.shape
  if height % factor or width % factor:
    raise ValueError(f'{height}x{width} pixels do not divide by {factor}.')
  boxes = pixels.reshape(*front, height // factor, factor, width // factor,
                         factor, channels)
  return np.rint(boxes.mean(axis=(-4, -2), dtype=np.float32)).astype(np.uint8)
