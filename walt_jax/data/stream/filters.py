"""Which examples can be shown, and at which of several shapes."""
from collections.abc import Sequence
import logging
import math

import numpy as np

from walt_jax.data.sources import source as source_lib

Shape = tuple[int, int]  # Height and width, in pixels.


def long_enough(source: source_lib.Source, num_frames: int, fps: float | None,
                stride: int) -> np.ndarray | None:
  """Indices of the examples that hold `num_frames` frames.

  Args:
    source: Source of clips; without a table `index` no length is known.
    num_frames: Frames wanted.
    fps: Their rate, frames/s; None takes every stride-th frame.
    stride: Times that distance.

  Returns:
    Sorted int array, or None for all.

  Raises:
    ValueError: No example is long enough, or the first has no rate to bring to
      the one that is wanted.
  """
  table = getattr(source, 'index', None)
  if num_frames == 1:
    fps = None
  if table is None:
    if fps is not None and len(source) and not source[0].get('fps'):
      raise ValueError(
          'Nothing says at what rate the clips play, so that none at '
          f'{fps:g} frames/s can be made; set frame_rate to 0.')
    return None
  step = np.float64(stride)
  if fps is not None:
    step = table['fps'].astype(np.float64) / fps * stride
  needed = np.floor((num_frames - 1) * step + 0.5) + 1
  fits = table['num_frames'] >= needed
  if fps is not None:
    fits &= table['fps'] > 0
  if fits.all():
    return None
  members = np.flatnonzero(fits)
  what = f'{num_frames} frames' + ('' if fps is None else f' at {fps:g}/s')
  if not len(members):
    raise ValueError(f'None of the {len(table)} clips has {what}; the longest '
                     f'has {int(table["num_frames"].max())}.')
  logging.getLogger('walt_jax').warning(
      '%d of %d clips are shorter than %s and are left out.',
      len(table) - len(members), len(table), what)
  return members


def buckets(source: source_lib.Source, members: np.ndarray | None,
            shapes: Sequence[Shape]) -> list[np.ndarray | None]:
  """Sorts examples by the shape whose aspect ratio is nearest.

  Args:
    source: Source of clips; with a table `index` if there are several shapes.
    members: Indices to sort; None is all.
    shapes: Shapes to choose from.

  Returns:
    For each shape, sorted indices; None is all.

  Raises:
    ValueError: The shapes of the examples are not known.
  """
  if len(shapes) == 1:
    return [members]
  table = getattr(source, 'index', None)
  if table is None:
    raise ValueError('Aspect buckets need prepared data, whose table says the '
                     'shape of each clip.')
  if members is None:
    members = np.arange(len(table))
  aspect = np.log(table['width'][members] / table['height'][members])
  targets = np.array([math.log(width / height) for height, width in shapes])
  nearest = np.abs(aspect[:, None] - targets).argmin(axis=1)
  return [members[nearest == number] for number in range(len(shapes))]
