"""Clips out of images: a still one, an animation, pages."""
from collections.abc import Iterator, Sequence
import functools
import os
from typing import Any, BinaryIO

import numpy as np

from walt_jax.media import images
from walt_jax.media import video_info

STILL_RATE = 1.0  # Of a still image: its clip of one frame is given one.
# Of pages and numbered files, of which nothing tells the rate. FFmpeg's, too.
PAGE_RATE = 25.0
_TOLERANCE = 1e-4  # Seconds; keeps equal rates from dropping to rounding.


def open_file(file: str | os.PathLike | BinaryIO, *, fps: float | None = None,
              size: images.Size | None = None, start: float | None = None,
              end: float | None = None
              ) -> tuple[video_info.VideoInfo, Iterator[np.ndarray]]:
  """Opens an image file as a clip.

  Args:
    file: The file.
    fps: Frames a second wanted. An animation shows at each tick what it shows
      then; pages, which have no times, are taken to have this rate, else
      `PAGE_RATE`.
    size: Maps height and width of the upright pictures to those wanted.
    start: Seconds to skip, of several pictures.
    end: Seconds from the start where the clip ends.

  Returns:
    What it is, and its frames, uint8 [H, W, 3].

  Raises:
    video_info.ClipError: Not an image, damaged or too large; also from the
      frames.
  """
  image = images.ImageFile(file)
  height, width = image.height, image.width
  if size is not None:
    height, width = size(height, width)
  describe = functools.partial(
      video_info.VideoInfo, height=height, width=width, container=image.kind,
      codec=image.kind, lossless=images.is_lossless(image.kind),
      is_timed=image.durations is not None)
  if len(image) == 1:
    rate = fps or STILL_RATE
    return describe(rate, duration=1 / rate, frames=1), image.pictures(size)
  durations = image.durations
  if durations is None:
    durations = (1 / (fps or PAGE_RATE),) * len(image)
  rate = fps or len(durations) / sum(durations)
  info = describe(rate, duration=sum(durations), frames=len(durations))
  numbers = shown(durations, fps, start, end)
  if not numbers:
    raise video_info.ClipError('no frame could be decoded')
  return info, pick(image.pictures(size), numbers)


def shown(durations: Sequence[float], fps: float | None,
          start: float | None = None, end: float | None = None) -> list[int]:
  """Which pictures are on show at each tick of `fps`.

  Args:
    durations: Seconds that each picture is shown.
    fps: Ticks a second; None takes each picture once.
    start: Seconds to skip.
    end: Seconds from the start where the clip ends.

  Returns:
    Numbers of pictures, not decreasing.
  """
  ends = np.cumsum(durations)
  starts = ends - durations
  kept = np.flatnonzero((starts >= (start or 0.0) - _TOLERANCE) & (
      starts < (np.inf if end is None else end) - _TOLERANCE))
  if fps is None or not len(kept):
    return kept.tolist()
  first, last = kept[0], kept[-1]
  count = int(np.ceil((ends[last] - starts[first] - _TOLERANCE) * fps))
  ticks = starts[first] + np.arange(max(1, count)) / fps
  return (np.searchsorted(starts[:last + 1], ticks + _TOLERANCE, 'right')
          - 1).tolist()


def pick(items: Iterator[Any], numbers: Sequence[int]) -> Iterator[Any]:
  """Yields items by their numbers, which do not decrease; reads all."""
  following = iter(numbers)
  wanted = next(following, None)
  for number, item in enumerate(items):
    while wanted == number:
      yield item
      wanted = next(following, None)
