"""The pixels that a clip begins with: an image, or the end of a video."""
from collections.abc import Sequence
import dataclasses
import functools

import numpy as np

from walt_jax.core import errors
from walt_jax.core import pixels as pixels_lib
from walt_jax.media import decode
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
    size: Size of the last stage; frames are scaled to cover it and their
      middle is cut out, as in training.
    num_frames: Frames taken of a video: its last ones.
    frame_rate: Frames a second that the model was trained at, to which a
      video is brought; None takes its frames as they are.

  Returns:
    uint8 [1 or num_frames, H, W, 3], or None where nothing is given.

  Raises:
    UserError: On a file that cannot be read, or a video that is too short.
  """
  if request.image:
    frames = decode.read_image(request.image)[None]
  elif request.video:
    cover = functools.partial(pixels_lib.cover, height=size.height,
                              width=size.width)
    frames = decode.read_clip(request.video, fps=frame_rate, size=cover,
                              last=num_frames)
    if len(frames) < num_frames:
      rate = f' at {frame_rate:g} frames/s' if frame_rate else ''
      raise errors.UserError(
          f'{request.video} has {len(frames)} frames{rate}, but to continue '
          f'it takes {num_frames}; give a longer video, or one frame by image')
  else:
    return None
  return pixels_lib.fit(frames, size.height, size.width)


def at_size(given: Sequence[np.ndarray | None],
            size: Size) -> list[np.ndarray | None]:
  """What is given, as a lower stage sees it: means over whole boxes."""
  return [None if frames is None else
          pixels_lib.downsample(frames, frames.shape[1] // size.height)
          for frames in given]
