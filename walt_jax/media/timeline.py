"""Frames of a video stream in time: all, a segment, or those at even times."""
from collections.abc import Iterator

import av

from walt_jax.media import containers
from walt_jax.media import video_info

_MAY_LACK = 0.02  # Part of the frames promised that nobody misses.


def decode(container, stream, start: float | None = None,
           end: float | None = None) -> Iterator[av.VideoFrame]:
  """Yields frames as decoded; closes the container.

  Args:
    container: Open file, from `containers.open_video`.
    stream: One of its video streams.
    start: Seconds to skip.
    end: Seconds from the file's start where the clip ends.

  Raises:
    video_info.ClipError: Damaged, after the frames before the damage.
  """
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
    raise video_info.ClipError(
        f'damaged: {containers.reason(error)}') from error
  finally:
    container.close()


def _whole(container, stream) -> Iterator[av.VideoFrame]:
  """Yields all frames; FFmpeg is silent when a file ends too early."""
  count = 0
  for frame in container.decode(stream):
    yield frame
    count += 1
  if count + max(2, _MAY_LACK * stream.frames) < stream.frames:
    raise video_info.ClipError(
        f'damaged: ends after {count} of {stream.frames} frames')
  length = container.duration  # In microseconds.
  if count and not stream.frames and length and len(container.streams) == 1:
    last = frame.time or 0.0
    if (1 - _MAY_LACK) * length / av.time_base > last + 1.0:
      raise video_info.ClipError(
          f'damaged: ends after {last:.1f} of '
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


def resample(first: av.VideoFrame, rest: Iterator[av.VideoFrame],
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
