"""Arithmetic of pixels: their ranges, sizes, crops and mirror images.

Functions of arrays work on NumPy's and on JAX's, and return the same kind;
those that resize with Pillow (`fit`) or copy in place (`mirror`) on NumPy's.
"""
from typing import Any

import numpy as np
from PIL import Image

Array = Any  # np.ndarray or jax.Array.


def check_clip(clip: np.ndarray, name: str = 'clip') -> np.ndarray:
  """Returns `clip` if it is uint8 [T, H, W, 3] with T >= 1; else raises.

  Raises:
    ValueError: Another type or shape.
  """
  clip = np.asarray(clip)
  if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3:
    raise ValueError(f'{name} must be uint8 [T, H, W, 3], got '
                     f'{clip.dtype} {list(clip.shape)}.')
  if 0 in clip.shape:
    raise ValueError(f'{name} is empty: {list(clip.shape)}.')
  return clip


def to_unit_range(pixels: Array) -> Array:
  """Maps uint8 pixels to float32 in [-1, 1]; floats pass through."""
  scaled = pixels.astype(np.float32)
  return scaled / 127.5 - 1.0 if pixels.dtype == np.uint8 else scaled


def to_uint8(pixels: Array) -> Array:
  """Maps pixels in [-1, 1] to uint8, rounding and clipping."""
  xp = pixels.__array_namespace__()
  levels = xp.round((pixels + 1.0) * 127.5)
  return xp.clip(levels, 0, 255).astype(np.uint8)


def downsample(pixels: Array, factor: int) -> Array:
  """Antialiased downsampling [..., H, W, 3] by a whole factor.

  The mean over each factor x factor box, rounded to the 256 levels of stored
  pixels.

  Args:
    pixels: uint8, or floats in [-1, 1].
    factor: Must divide H and W.

  Returns:
    [..., H / factor, W / factor, 3] of the type of `pixels`.

  Raises:
    ValueError: H or W is no multiple of the factor.
  """
  *front, height, width, channels = pixels.shape
  if height % factor or width % factor:
    raise ValueError(f'{height}x{width} pixels do not divide by {factor}.')
  xp = pixels.__array_namespace__()
  boxes = pixels.reshape(*front, height // factor, factor, width // factor,
                         factor, channels)
  if pixels.dtype == np.uint8:
    means = boxes.mean(axis=(-4, -2), dtype=np.float32)
    return xp.round(means).astype(np.uint8)
  means = boxes.mean(axis=(-4, -2))
  return xp.round((means + 1.0) * 127.5) / 127.5 - 1.0


def cover(rows: int, columns: int, height: int, width: int) -> tuple[int, int]:
  """The size of a frame after scaling it to just cover height x width."""
  scale = max(height / rows, width / columns)
  return max(height, round(rows * scale)), max(width, round(columns * scale))


def fit(frames: np.ndarray, height: int, width: int,
        rng: np.random.Generator | None = None) -> np.ndarray:
  """Resizes uint8 [T, H, W, 3] to cover height x width, then crops.

  Args:
    frames: uint8 [T, H, W, 3].
    height: Rows wanted.
    width: Columns wanted.
    rng: Draws where to crop; None crops the centre.
  """
  _, rows, columns, _ = frames.shape
  if (rows, columns) == (height, width):
    return frames
  new = cover(rows, columns, height, width)
  if new != (rows, columns):
    frames = np.stack([
        np.asarray(Image.fromarray(frame).resize(
            new[::-1], Image.Resampling.BICUBIC)) for frame in frames])
  spare = new[0] - height, new[1] - width
  if rng is None:
    top, left = spare[0] // 2, spare[1] // 2
  else:
    top, left = (int(rng.integers(s + 1)) for s in spare)
  return frames[:, top:top + height, left:left + width]


def mirror(frames: np.ndarray) -> np.ndarray:
  """Swaps left and right of uint8 [T, H, W, 3]."""
  # Channel by channel: NumPy copies reversed pixels four times as slowly.
  mirrored = np.empty(frames.shape, np.uint8)
  for channel in range(frames.shape[-1]):
    mirrored[..., channel] = frames[:, :, ::-1, channel]
  return mirrored
