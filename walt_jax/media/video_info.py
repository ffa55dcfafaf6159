"""What is known of a file of frames, and the error of one that is not read."""
from collections.abc import Iterator
import dataclasses

import numpy as np

_MAX_SIDE = 16384  # A larger frame is taken for damage.
_MAX_PIXELS = 1 << 27  # As is one with more pixels: 400 MB as RGB.


class ClipError(Exception):
  """A video file that cannot be used; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Place:
  """Where in a file something is.

  Attributes:
    time: Seconds of the file before it, gaps left out.
    frame: Number of frames read before it.
    reason: What is there, for messages.
  """
  time: float
  frame: int
  reason: str

  def __str__(self) -> str:
    return f'{self.reason}, at {self.time:.2f} s (frame {self.frame})'


@dataclasses.dataclass(frozen=True)
class VideoInfo:
  """What a file holds.

  Attributes:
    fps: Frames a second; of frames that are resampled, the rate asked for.
    height: Rows of an upright frame with square pixels.
    width: Its columns.
    duration: Seconds from the first frame's start to the last one's end, or
      None where nothing says so.
    frames: Number of frames, or None where only reading all would tell.
    container: FFmpeg's short name, as 'mp4'.
    codec: FFmpeg's name, as 'h264'.
    lossless: Whether the codec keeps every pixel; None of an image whose kind
      may do either.
    is_timed: Whether the file says when its frames are shown; else `fps` and
      `duration` are those that it is taken to have.
    cuts: Places where the frame before is not the one that came before: time
      jumps there. No clip crosses one.
    damage: Places where frames are broken or missing.
    deinterlaced: Number of frames whose two fields were made one picture.
  """
  fps: float
  height: int
  width: int
  duration: float | None = None
  frames: int | None = None
  container: str = ''
  codec: str = ''
  lossless: bool | None = False
  is_timed: bool = True
  cuts: tuple[Place, ...] = ()
  damage: tuple[Place, ...] = ()
  deinterlaced: int = 0


@dataclasses.dataclass(frozen=True)
class Segment:
  """Frames that follow one another without a gap.

  Attributes:
    time: Seconds from the file's first frame to this segment's.
    frames: Its frames, uint8 [H, W, 3]. They are decoded as they are taken;
      the next segment begins where they end.
  """
  time: float
  frames: Iterator[np.ndarray]


def check_size(height: int, width: int) -> None:
  """Refuses frames that no video has.

  Raises:
    ClipError: Too large.
  """
  if max(height, width) > _MAX_SIDE or height * width > _MAX_PIXELS:
    raise ClipError(f'frames of {width}x{height} pixels are too large')
