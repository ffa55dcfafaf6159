"""Pictures made ready to be drawn: turned, scaled by area, lit, premultiplied.

All of it is whole numbers, so that every machine draws the same bytes.
"""
import dataclasses
import functools
import math

import numpy as np

from walt_jax.data.sources.stage_play import art
from walt_jax.data.sources.stage_play import places

_STEPS = 64  # Of a turn.
_ONE = 1 << 12  # Of sines and cosines.


@dataclasses.dataclass(frozen=True, eq=False)
class Sprite:
  """A picture as it is drawn.

  Attributes:
    add: uint16 [h, w, 3], colours times opacity, in [0, 255 * 255].
    keep: uint16 [h, w, 1], 255 less the opacity.
    solid: uint8 [h, w, 3] if it is opaque everywhere, else None.
  """
  add: np.ndarray
  keep: np.ndarray
  solid: np.ndarray | None = None

  @property
  def size(self) -> tuple[int, int]:
    height, width = self.keep.shape[:2]
    return height, width


def from_pixels(pixels: np.ndarray) -> Sprite:
  """A sprite of uint8 [h, w, 4], RGBA."""
  alpha = pixels[..., 3:].astype(np.uint16)
  colour = pixels[..., :3]
  solid = np.ascontiguousarray(colour) if alpha.min() == 255 else None
  return Sprite(colour * alpha, 255 - alpha, solid)


@functools.lru_cache(maxsize=8192)
def sprite(name: str, height: int, width: int, *, mirrored: bool = False,
           turn: int = 0, light: places.Colour = places.DAY) -> Sprite:
  """A picture at a size.

  Args:
    name: A key of `art.digests`.
    height: Pixels.
    width: Pixels, of the picture before it is turned.
    mirrored: Whether left and right change places, after the turn.
    turn: 64ths of a turn, clockwise, about the middle.
    light: 256ths of each channel that are left.
  """
  pixels = art.read(name).astype(np.int64)
  pixels[..., :3] *= pixels[..., 3:]
  if turn % _STEPS:
    pixels = _turned(pixels, turn % _STEPS)
  if mirrored:
    pixels = pixels[:, ::-1]
  area = scaled(pixels, height, width)
  add = area[..., :3] * np.array(light) >> 8
  return Sprite(add.astype(np.uint16),
                (255 - area[..., 3:]).astype(np.uint16))


def scaled(values: np.ndarray, height: int, width: int) -> np.ndarray:
  """Means of int64 [H, W, C] over the areas of [height, width, C] pixels."""
  total = values.shape[0] * values.shape[1]
  columns = _integrals(values, height)
  sums = _integrals(columns.transpose(1, 0, 2), width).transpose(1, 0, 2)
  return (sums + total // 2) // total


def _integrals(values: np.ndarray, size: int) -> np.ndarray:
  """`size` times the integral over each of `size` equal parts of axis 0."""
  count = values.shape[0]
  sums = np.zeros((count + 2, *values.shape[1:]), np.int64)
  np.cumsum(values, axis=0, out=sums[1:-1])
  sums[-1] = sums[-2]
  cell, rest = np.divmod(np.arange(size + 1) * count, size)
  rest = rest.reshape(-1, *[1] * (values.ndim - 1))
  ends = sums[cell] * size + (sums[cell + 1] - sums[cell]) * rest
  return np.diff(ends, axis=0)


def _turned(pixels: np.ndarray, turn: int) -> np.ndarray:
  """int64 [H, W, C] turned about its middle, in a frame of the same size.

  Each pixel of twice as many is that of the picture which its middle hits.
  """
  height, width = pixels.shape[:2]
  angle = 2 * math.pi * turn / _STEPS
  cosine, sine = round(math.cos(angle) * _ONE), round(math.sin(angle) * _ONE)
  # In quarters of a pixel from the middle.
  y = (2 * np.arange(2 * height) + 1 - 2 * height)[:, None]
  x = (2 * np.arange(2 * width) + 1 - 2 * width)[None, :]
  row = (y * cosine - x * sine) // (4 * _ONE) + height // 2
  column = (x * cosine + y * sine) // (4 * _ONE) + width // 2
  inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
  found = pixels[np.where(inside, row, 0), np.where(inside, column, 0)]
  return found * inside[..., None]


def paint(region: np.ndarray, add: np.ndarray, keep: np.ndarray) -> None:
  """Lays a premultiplied picture over uint8 [h, w, 3], in place."""
  region[:] = (region * keep + add + 127) // 255
