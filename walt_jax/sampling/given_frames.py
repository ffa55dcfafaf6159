"""The pixels that a clip begins with: an image, or the end of a video."""
from collections.abc import Sequence
import dataclasses

import numpy as np

from walt_jax.core import errors
from walt_jax.core import pixels as pixels_lib
from walt_jax.media import video
from walt_jax.sampling import requests as requests_lib


@dataclasses.dataclass(frozen=True)
class Size:
  """Of a stage's frames, in pixels."""
  height: int
  width: int


def read(request: requests_lib.Request, size: Size, num_frames: int,
         frame_rate: float | None) -> np.ndarray | None:
  """Reads what a request gives.

  Args:
    request: Request with `image`, `video` or neither.
    size: Size of the last stage; the largest window of that shape is cut out of
      the middle and resized.
    num_frames: Frames taken of a video: its last ones.
    frame_rate: Frames a second that the model was trained at, to which a
      video of a known other rate is brought; None leaves it as it is.

  Returns:
    uint8 [1 or num_frames, H, W, 3], or None where nothing is given.

  Raises:
    UserError: On a file that cannot be read, or a video that is too short.
  """
  if request.image:
    return fit(video.read_image(request.image)[None], size)
  if not request.video:
    return None
  frames, rate = video.read_video(request.video)
  step = rate / frame_rate if rate and frame_rate else 1.0
  back = np.floor(np.arange(num_frames)[::-1] * step + 0.5).astype(int)
  if back[0] >= len(frames):
    raise errors.UserError(
        f'{request.video} has {len(frames)} frames, but to continue from it '
        f'takes {back[0] + 1}; give a longer video, or one frame by image')
  return fit(frames[len(frames) - 1 - back], size)


def fit(frames: np.ndarray, size: Size) -> np.ndarray:
  """Cuts the middle out of [T, H, W, 3] and resizes it, antialiased."""
  from PIL import Image
  height, width = frames.shape[1:3]
  if (height, width) == (size.height, size.width):
    return frames
  scale = min(height / size.height, width / size.width)
  rows, columns = size.height * scale, size.width * scale
  top, left = (height - rows) / 2, (width - columns) / 2
  box = (left, top, left + columns, top + rows)
  return np.stack([
      np.asarray(Image.fromarray(frame).resize(
          (size.width, size.height), Image.Resampling.BICUBIC, box=box))
      for frame in frames])


def at_size(given: Sequence[np.ndarray | None],
            size: Size) -> list[np.ndarray | None]:
  """What is given, as a lower stage sees it: means over whole boxes."""
  return [None if frames is None else
          pixels_lib.downsample(frames, frames.shape[1] // size.height)
          for frames in given]
