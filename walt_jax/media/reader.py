"""A file being read: segments of frames, and what was found on the way."""
import collections
from collections.abc import Iterator
import dataclasses
import io
import itertools
import os
from typing import Any

import av
import numpy as np

from walt_jax.media import containers
from walt_jax.media import frame_folders
from walt_jax.media import image_clips
from walt_jax.media import images
from walt_jax.media import interlacing
from walt_jax.media import rgb
from walt_jax.media import seeking
from walt_jax.media import timeline
from walt_jax.media import truncation
from walt_jax.media import video_info


class Reader:
  """A file, or a folder of frames, being read segment by segment."""

  def __init__(self, path: str | os.PathLike, *, fps: float | None = None,
               size: images.Size | None = None, start: float | None = None,
               end: float | None = None, data: bytes | None = None):
    """Opens a file and decodes its first frame.

    Args:
      path: A file that FFmpeg or Pillow can open, or a folder of numbered
        images (`frame_folders`).
      fps: Frames a second wanted. Each output time shows the frame that a
        player would show then, so that variable frame rates come out constant.
        Images without times have this rate. None keeps every frame.
      size: Maps height and width of the upright frames, of square pixels, to
        those wanted; None keeps the size.
      start: Seconds to skip.
      end: Seconds from the file's start where the clip ends.
      data: The bytes of the file, where they are not in `path`.

    Raises:
      video_info.ClipError: The file holds no video, or nothing of it can be
        decoded.
    """
    self._source: _Video | _Pictures | frame_folders.FolderSource
    if data is None and os.path.isdir(path):
      self._source = frame_folders.FolderSource(
          path, fps=fps, size=size, start=start, end=end)
    elif images.is_image(str(path)):
      self._source = _Pictures(path if data is None else io.BytesIO(data),
                               fps, size, start, end)
    else:
      self._source = _Video(path, data, fps, size, start, end)

  @property
  def info(self) -> video_info.VideoInfo:
    """What is known of the file.

    `cuts`, `damage` and `deinterlaced` tell of what has been read so far.
    """
    return self._source.info()

  def segments(self) -> Iterator[video_info.Segment]:
    """Yields the segments of the file, once.

    Raises:
      video_info.ClipError: Nothing more can be had from the file. Also from
        the frames of a segment.
    """
    for time, frames in self._source.segments():
      yield video_info.Segment(time, map(self._source.to_rgb, frames))

  def first(self, count: int | None, *, rest: bool = True
            ) -> list[np.ndarray]:
    """The first frames, or all; decodes the rest, too, for damage.

    Args:
      count: How many, or None for all.
      rest: False leaves the rest unread.

    Raises:
      video_info.ClipError: Damage, or a gap in time between these frames.
    """
    kept: list[np.ndarray] | None = None
    for _, frames in self._source.segments():
      if kept is None:
        kept = [self._source.to_rgb(frame)
                for frame in itertools.islice(frames, count)]
        if count is None or len(kept) < count:
          self._refuse_damage()
          self._refuse_cuts()
        elif not rest:
          break
    self._refuse_damage()
    return kept or []

  def last(self, count: int) -> list[np.ndarray]:
    """The last frames, or all of fewer.

    Raises:
      video_info.ClipError: Damage, or a gap in time between these frames.
    """
    kept: collections.deque = collections.deque()
    for _, frames in self._source.segments():
      kept = collections.deque(frames, count)
      self._refuse_damage()
    if len(kept) < count:
      self._refuse_cuts()
    return [self._source.to_rgb(frame) for frame in kept]

  def close(self) -> None:
    """Closes the file; for one that is not read to its end."""
    self._source.close()

  def _refuse_damage(self) -> None:
    for place in self.info.damage:
      raise video_info.ClipError(f'damaged: {place}')

  def _refuse_cuts(self) -> None:
    for place in self.info.cuts:
      raise video_info.ClipError(f'not one clip: {place}')


class _Pictures:
  """An image file as a source of frames."""

  def __init__(self, file, fps: float | None, size: images.Size | None,
               start: float | None, end: float | None):
    self._info, self._frames = image_clips.open_file(
        file, fps=fps, size=size, start=start, end=end)

  def info(self) -> video_info.VideoInfo:
    return self._info

  def segments(self) -> Iterator[tuple[float, Iterator[Any]]]:
    yield 0.0, self._frames

  def to_rgb(self, frame: Any) -> np.ndarray:
    return frame

  def close(self) -> None:
    pass


class _Video:
  """A video as a source of decoded frames."""

  def __init__(self, path, data: bytes | None, fps: float | None,
               size: images.Size | None, start: float | None,
               end: float | None):
    self._fps, self._size = fps, size
    self._to_rgb = rgb.Converter()
    self._is_part = bool(start) or end is not None
    source = containers.open_video(path, data)
    self._container = source.container
    self._info = _describe(source)
    try:
      with (io.BytesIO(data) if data is not None else
            open(path, 'rb')) as file:
        ending = truncation.Ending(source, file)
      self._pixel_aspect = float(source.stream.sample_aspect_ratio or 1)
      decoder, events = seeking.start(source, ending, start, end)
      self._interval = decoder.packets.interval
      self._deinterlacer = interlacing.Deinterlacer()
      self._first: tuple[int, int] | None = None
      self._timeline = timeline.Timeline(
          self._deinterlacer(events), self._interval, self._look, start or 0.0)
      if self._first is None:
        problem = decoder.last_problem
        raise video_info.ClipError(
            'no frame could be decoded' + (f' ({problem})' if problem else ''))
    except BaseException:
      self._container.close()
      raise

  def info(self) -> video_info.VideoInfo:
    assert self._first is not None
    height, width = self._first
    return dataclasses.replace(
        self._info, fps=self._fps or 1 / self._interval, height=height,
        width=width, cuts=tuple(self._timeline.cuts),
        damage=tuple(self._timeline.damage),
        deinterlaced=self._deinterlacer.count)

  def segments(self) -> Iterator[tuple[float, Iterator[Any]]]:
    try:
      for time, shown in self._timeline.stretches():
        yield time, timeline.resample(shown, self._fps)
      if not self._is_part:  # What was counted stands over what headers say.
        self._info = dataclasses.replace(
            self._info, frames=self._timeline.frames,
            duration=self._timeline.clock)
    finally:
      self.close()

  def to_rgb(self, frame: Any) -> np.ndarray:
    layout, height, width = self._shown(frame)
    try:
      return self._to_rgb(frame, layout, height, width)
    except (av.error.FFmpegError, OSError, ValueError) as error:
      raise video_info.ClipError(
          f'its colours cannot be converted ({containers.reason(error)})'
      ) from error

  def close(self) -> None:
    self._container.close()

  def _shown(self, frame: Any) -> tuple[rgb.Layout, int, int]:
    """Layout of a frame, and the size to give it."""
    layout = rgb.layout(frame, self._pixel_aspect)
    if self._size is None:
      return layout, layout.height, layout.width
    return layout, *self._size(layout.height, layout.width)

  def _look(self, frame: Any) -> str:
    """The size at which a frame is shown, for messages; refuses frames."""
    rgb.check_range(frame.color_trc)
    layout, height, width = self._shown(frame)
    video_info.check_size(layout.height, layout.width)
    if self._first is None:
      self._first = height, width
    return f'{width}x{height}'


def _describe(source: containers.Source) -> video_info.VideoInfo:
  """What the headers of a video say; the reader knows more."""
  container, stream = source.container, source.stream
  seconds = None
  if stream.duration:
    seconds = float(stream.duration * stream.time_base)
  elif container.duration:
    seconds = container.duration / containers.TIME_BASE
  return video_info.VideoInfo(
      0.0, stream.height, stream.width, duration=seconds,
      frames=stream.frames or None,
      container=containers.short_name(container),
      codec=stream.codec_context.codec.canonical_name,
      lossless=containers.is_lossless(stream))
