"""Bilinear resizing as the reference implementations of metrics do it."""
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

# Where output pixel i of `size` reads a source of `extent` pixels:
# 'tf1': i * extent / size, TensorFlow 1's `resize_bilinear`;
# 'half-pixel': (i + 1/2) * extent / size - 1/2, PyTorch's default;
# 'corners': i * (extent - 1) / (size - 1), Chainer's `resize_images`.
# None smooths before it shrinks.
Grid = Literal['tf1', 'half-pixel', 'corners']


def resize(frames: jax.Array, size: int, *, grid: Grid) -> jax.Array:
  """Resizes float [..., H, W, C] to [..., size, size, C].

  Beyond the first and last row and column, these are repeated.
  """
  for axis in (-3, -2):
    extent = frames.shape[axis]
    if extent == size:
      continue
    where = np.clip(_positions(extent, size, grid), 0, extent - 1)
    low = np.floor(where).astype(np.int32)
    high = np.minimum(low + 1, extent - 1)
    share = (where - low).astype(np.float32).reshape(
        (-1,) + (1,) * (-axis - 1))
    first = jnp.take(frames, low, axis=axis)
    frames = first + (jnp.take(frames, high, axis=axis) - first) * share
  return frames


def _positions(extent: int, size: int, grid: Grid) -> np.ndarray:
  """float32, as all of them compute it."""
  steps = np.arange(size, dtype=np.float32)
  if grid == 'tf1':
    return steps * np.float32(extent / size)
  if grid == 'half-pixel':
    return (steps + np.float32(0.5)) * np.float32(
        extent / size) - np.float32(0.5)
  return steps * np.float32((extent - 1) / max(size - 1, 1))
