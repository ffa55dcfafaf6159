"""Clips longer than a window: which frames each window makes, how they join.

A window is what a stage draws at once, 1+T frames of 1+t latent frames. Each
window after the first is drawn with the last frames of the clip so far as its
first ones, re-encoded, and only what follows them is new (section 4.5): with
17 frames a window and 5 given, N = 17 + 12 k frames, cropped to what was
asked for.
"""
from collections.abc import Iterable
import dataclasses
import math

import numpy as np

CONTEXT_LATENTS = 2  # 5 frames of a tokenizer with f_t = 4.


@dataclasses.dataclass(frozen=True)
class Plan:
  """The windows of a clip.

  Attributes:
    num_frames: N, frames of the clip.
    window_frames: 1+T, frames of a window.
    context_frames: The frames that a window shares with the one before.
  """
  num_frames: int
  window_frames: int
  context_frames: int

  def __post_init__(self):
    if self.num_frames < 1:
      raise ValueError(f'num_frames must be at least 1: {self.num_frames}.')
    if self.num_frames > self.window_frames and self.new_frames < 1:
      raise ValueError(
          f'A window of {self.window_frames} frames of which '
          f'{self.context_frames} are given makes no new ones.')

  @property
  def new_frames(self) -> int:
    """Frames that each window after the first adds."""
    return self.window_frames - self.context_frames

  @property
  def num_windows(self) -> int:
    """How many windows the clip takes."""
    missing = max(0, self.num_frames - self.window_frames)
    return 1 + (math.ceil(missing / self.new_frames) if missing else 0)

  def middle(self, window: int) -> float:
    """The middle frame of what a window adds; its prompt is the window's."""
    first = self.window_frames + (window - 1) * self.new_frames
    if window == 0:
      return (self.window_frames - 1) / 2
    return first + (self.new_frames - 1) / 2

  def first_new(self, window: int) -> int:
    """Number of the first frame that a window adds."""
    return (0 if window == 0 else
            self.window_frames + (window - 1) * self.new_frames)


def plan(num_frames: int | None, window_latents: int, f_t: int) -> Plan:
  """Plans a clip of `num_frames`; None makes one window.

  Args:
    num_frames: N.
    window_latents: 1+t of a window.
    f_t: Frames a latent frame after the first.
  """
  window = 1 + (window_latents - 1) * f_t
  return Plan(window if num_frames is None else num_frames, window,
              1 + (CONTEXT_LATENTS - 1) * f_t)


def join(windows: Iterable[np.ndarray], plan: Plan, *,
         blend: bool) -> np.ndarray:
  """Joins the windows of one clip.

  Args:
    windows: uint8 [1+T, H, W, 3] each, in order.
    plan: Windows of the clip.
    blend: False: the frames that two windows share are the earlier one's (the
      later one was drawn to continue from them). True: they go over from the
      earlier to the later one linearly (windows that know nothing of each
      other).

  Returns:
    uint8 [N, H, W, 3].
  """
  shared = plan.context_frames
  clip = None
  for window in windows:
    if clip is None:
      clip = window
      continue
    if blend:
      share = np.arange(1, shared + 1, dtype=np.float32) / (shared + 1)
      share = share[:, None, None, None]
      mixed = (1 - share) * clip[-shared:] + share * window[:shared]
      clip = np.concatenate([clip[:-shared], np.rint(mixed).astype(np.uint8)])
    clip = np.concatenate([clip, window[shared:]])
  if clip is None:
    raise ValueError('A clip has at least one window.')
  return clip[:plan.num_frames]
