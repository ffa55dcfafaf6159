"""Which frames make a clip: cuts of a stream, and picks of an example."""
from collections.abc import Iterator

import numpy as np

from walt_jax.media import decode


def cut(frames: Iterator[np.ndarray], length: int, stride: int,
        min_frames: int) -> Iterator[np.ndarray]:
  """Cuts a stream of frames into clips [length, H, W, 3], `stride` apart.

  What is left at the end makes a shorter clip when it has at least
  `min_frames` frames that no earlier clip holds, or when it is the first.

  Raises:
    decode.ClipError: As the stream does, after the clips that came before.
  """
  held: list[np.ndarray] = []
  skip = fresh = 0
  first = True
  damage = None
  while True:
    try:
      frame = next(frames, None)
    except decode.ClipError as error:
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


def frame_indices(available: int, source_fps: float | None, num_frames: int,
                  fps: float | None, rng: np.random.Generator | None,
                  strides: tuple[int, ...] = (1,)) -> np.ndarray:
  """Picks `num_frames` frames out of `available`.

  Args:
    available: Frames of the example.
    source_fps: Their rate, frames/s; None where it is not known.
    num_frames: Frames wanted.
    fps: Rate wanted; None takes neighbours.
    rng: Draws the offset and the stride; None takes the middle of the example
      and the first stride.
    strides: Multiples of the distance between frames to draw from; those that
      do not fit are left out.

  Returns:
    int [num_frames], increasing.

  Raises:
    ValueError: The example is too short for all strides, or has no rate to
      bring to another.
  """
  step = 1.0
  if fps is not None and num_frames > 1:
    if not source_fps:
      raise ValueError(
          'nothing says at what rate it plays, so that no frames at '
          f'{fps:g}/s can be found; take its own rate (frame_rate 0).')
    step = source_fps / fps
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
