"""Folders of numbered images that are the frames of one clip.

A folder is a clip if it holds two images or more and nothing else (hidden files
aside), of one suffix, whose names are one text and a number (`00001.png`,
`frame-7.jpg`), every number once, and no more numbers missing than there are.
Whoever wants images, not clips, does not ask.
"""
import collections
from collections.abc import Iterable, Iterator
import dataclasses
import os
import pathlib
import re

import numpy as np

from walt_jax.media import image_clips
from walt_jax.media import images
from walt_jax.media import video_info

_NUMBERED = re.compile(r'(?P<text>.*?)(?P<number>[0-9]+)')
CONTAINER = 'images'  # What `VideoInfo` calls such a folder.
_TOLERANCE = 1e-4  # Seconds.


@dataclasses.dataclass(frozen=True)
class Frame:
  """One image of a clip.

  Attributes:
    number: Its place in time, by its name.
    name: Its file's name.
  """
  number: int
  name: str


def frames_of(names: Iterable[str]) -> tuple[Frame, ...]:
  """The frames of a folder that holds these files, in order; () if no clip."""
  kinds, frames = set(), []
  for name in names:
    pure = pathlib.PurePath(name)
    match = _NUMBERED.fullmatch(pure.stem)
    if match is None or not images.is_image(name):
      return ()
    kinds.add((match['text'], pure.suffix.lower()))
    frames.append(Frame(int(match['number']), name))
  frames.sort(key=lambda frame: frame.number)
  numbers = {frame.number for frame in frames}
  if len(kinds) != 1 or len(frames) < 2 or len(numbers) < len(frames):
    return ()
  if max(numbers) - min(numbers) + 1 > 2 * len(frames):
    return ()
  return tuple(frames)


def find(folder: str | os.PathLike) -> tuple[Frame, ...]:
  """The frames of a folder, in order; () if it is no clip."""
  names = []
  for entry in pathlib.Path(folder).iterdir():
    if entry.name.startswith('.'):
      continue
    if not entry.is_file():
      return ()
    names.append(entry.name)
  return frames_of(names)


class FolderSource:
  """A folder of frames, for `reader.Reader`."""

  def __init__(self, folder: str | os.PathLike, *, fps: float | None = None,
               size: images.Size | None = None, start: float | None = None,
               end: float | None = None):
    """Opens a folder.

    Args:
      folder: One that `find` takes for a clip.
      fps: Rate of the frames; `image_clips.PAGE_RATE` if nobody says.
      size: Maps height and width of a frame to those wanted.
      start: Seconds to skip.
      end: Seconds from the start where the clip ends.

    Raises:
      video_info.ClipError: No clip, or no frame of it can be read.
    """
    self._folder, self._size = pathlib.Path(folder), size
    try:
      found = find(folder)
    except OSError as error:
      raise video_info.ClipError(f'cannot list: {error.strerror}') from error
    if not found:
      raise video_info.ClipError(
          'a folder of nothing but images numbered one after another is read '
          'as a clip; this is none')
    self._rate = fps or image_clips.PAGE_RATE
    self._origin = found[0].number
    self._frames = tuple(
        frame for frame in found
        if self._time(frame) >= (start or 0.0) - _TOLERANCE
        and (end is None or self._time(frame) < end - _TOLERANCE))
    kind = images.kind_of(found[0].name)
    self._cuts: list[video_info.Place] = []
    self._damage: list[video_info.Place] = []
    self._pictures = self._read()
    self._next = next(self._pictures, None)
    if self._next is None:
      raise video_info.ClipError(
          self._damage[0].reason if self._damage else
          'no frame could be decoded')
    height, width, _ = self._next[1].shape
    self._info = video_info.VideoInfo(
        self._rate, height, width, duration=len(self._frames) / self._rate,
        frames=len(self._frames), container=CONTAINER, codec=kind,
        lossless=images.is_lossless(kind), is_timed=False)

  def info(self) -> video_info.VideoInfo:
    """What is known; `cuts` and `damage` are those of what has been read."""
    return dataclasses.replace(
        self._info, cuts=tuple(self._cuts), damage=tuple(self._damage))

  def segments(self) -> Iterator[tuple[float, Iterator[np.ndarray]]]:
    """Yields (seconds, frames) of segments that no missing frame parts.

    Raises:
      video_info.ClipError: A frame of another size, from the frames.
    """
    while self._next is not None:
      frames = self._segment()
      yield self._next[2], frames
      collections.deque(frames, 0)  # What nobody took.

  def to_rgb(self, frame: np.ndarray) -> np.ndarray:
    """The frame, which is RGB."""
    return frame

  def close(self) -> None:
    """Does nothing: no file is held open."""

  def _segment(self) -> Iterator[np.ndarray]:
    before: Frame | None = None
    while self._next is not None:
      frame, picture, _ = self._next
      if before is not None and frame.number != before.number + 1:
        return
      yield picture
      before, self._next = frame, next(self._pictures, None)

  def _read(self) -> Iterator[tuple[Frame, np.ndarray, float]]:
    """Yields the frames that can be read and their times; tells of others."""
    stored: tuple[int, ...] = ()
    before: Frame | None = None
    count = 0
    for frame in self._frames:
      if before is not None and frame.number != before.number + 1:
        missing = frame.number - before.number - 1
        cut = self._place(
            count, f'{missing} frame{"s" * (missing > 1)} missing between '
            f'{before.name} and {frame.name}')
        self._cuts.append(cut)
      before = frame
      try:
        picture = images.read(self._folder / frame.name)
      except video_info.ClipError as error:
        self._damage.append(self._place(count, f'{frame.name}: {error}'))
        continue
      stored = stored or picture.shape
      if picture.shape != stored:
        raise video_info.ClipError(
            f'{frame.name} has {picture.shape[1]}x{picture.shape[0]} pixels, '
            f'frames before it {stored[1]}x{stored[0]}')
      yield frame, images.resize(picture, self._size), count / self._rate
      count += 1

  def _place(self, count: int, reason: str) -> video_info.Place:
    return video_info.Place(count / self._rate, count, reason)

  def _time(self, frame: Frame) -> float:
    """Seconds from the first frame of the folder."""
    return (frame.number - self._origin) / self._rate
