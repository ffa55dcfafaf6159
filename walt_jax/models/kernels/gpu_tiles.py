"""Tiles of tokens and head columns for Triton kernels.

Triton computes on arrays whose extents are powers of two. A head of another
size is held as several pieces side by side (72 columns as 64 and 16, of which
8 are real), and a window of another length ends in a tile of which some rows
are masked. Masked values are zero.
"""
import dataclasses

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from walt_jax.models import windows

MIN_EXTENT = 16  # Of every operand of a matrix product.

# One array [rows, size] for each piece of the head.
Columns = tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class Piece:
  """Columns [start, start + size) of a head, the first `real` of them real."""
  start: int
  size: int
  real: int


def head_pieces(head_dim: int) -> tuple[Piece, ...]:
  """Cuts a head into powers of two, with fewer than 16 columns of padding."""
  pieces, start = [], 0
  while start < head_dim:
    left = head_dim - start
    size = max(MIN_EXTENT, pl.next_power_of_2(left))
    if size - left >= MIN_EXTENT:
      size //= 2
    pieces.append(Piece(start, size, min(size, left)))
    start += size
  return tuple(pieces)


@dataclasses.dataclass(frozen=True)
class Geometry:
  """Windows of a batch of token grids [B, T, H, W, K, d].

  Attributes:
    batch: B.
    grid: (T, H, W).
    window: Extent of one window; tiles the grid.
    heads: K.
    head_dim: d.
  """
  batch: int
  grid: windows.Window
  window: windows.Window
  heads: int
  head_dim: int

  @property
  def counts(self) -> windows.Window:
    """Windows along each axis."""
    t, h, w = self.grid
    wt, wh, ww = self.window
    return t // wt, h // wh, w // ww

  @property
  def num_windows(self) -> int:
    """Windows of one row of the batch."""
    t, h, w = self.counts
    return t * h * w

  @property
  def length(self) -> int:
    """Tokens of one window."""
    t, h, w = self.window
    return t * h * w

  def num_tiles(self, size: int) -> int:
    """Tiles of `size` tokens of one window, the last one perhaps not full."""
    return -(-self.length // size)

  @property
  def pieces(self) -> tuple[Piece, ...]:
    return head_pieces(self.head_dim)

  @property
  def array_shape(self) -> tuple[int, ...]:
    return self.batch, *self.grid, self.heads, self.head_dim

  def window_index(self, number):
    """Place of a window among `counts`, from its raster number."""
    return unravel(number, self.counts)


def unravel(number, extents: windows.Window):
  """Indices (t, h, w) of raster numbers, not negative; scalar or array."""
  _, rows, columns = extents
  number = jnp.asarray(number, jnp.int32)
  outer, column = _divide(number, columns)
  return (*_divide(outer, rows), column)


def _divide(number, divisor: int):
  # Of numbers that are not negative, without the care that // and % take.
  if divisor == 1:
    return number, jnp.zeros_like(number)
  by = jnp.full_like(number, divisor)
  return jax.lax.div(number, by), jax.lax.rem(number, by)


def make_geometry(
    shape: tuple[int, ...], window: windows.Window) -> Geometry:
  """Geometry of an array [B, T, H, W, K, d], fused where memory is contiguous.

  An axis that a window fills joins the axis before it, so that addresses need
  the fewest divisions: (1, 16, 16) of (5, 16, 16) becomes (1, 1, 256) of
  (5, 1, 256).
  """
  batch, t, h, w, heads, head_dim = shape
  windows.check_window((t, h, w), window)
  wt, wh, ww = window
  if ww == w:
    h, w, wh, ww = 1, h * w, 1, wh * ww
  if (wh, ww) == (h, w):
    t, h, w, wt, wh, ww = 1, 1, t * h * w, 1, 1, wt * wh * ww
  return Geometry(batch, (t, h, w), (wt, wh, ww), heads, head_dim)


@dataclasses.dataclass(frozen=True)
class Rows:
  """Some tokens of a window: where they are and which of them are real.

  Attributes:
    place: Indices that select the tokens on the token axes of a block.
    tokens: int32 [rows], positions inside the window.
    real: bool [rows], or None if all are.
  """
  place: tuple
  tokens: jax.Array
  real: jax.Array | None


def window_rows(
    geometry: Geometry, tile, size: int, origin=(0, 0, 0), lead=()) -> Rows:
  """Rows of one tile of a window.

  Args:
    geometry: The windows.
    tile: Number of the tile inside the window.
    size: Tokens of a tile.
    origin: First token of the window inside the block, (t, h, w).
    lead: Indices of the axes before the token axes.
  """
  tokens = tile * size + jnp.arange(size, dtype=jnp.int32)
  real = None
  if geometry.length % size:
    real = tokens < geometry.length
  place = tuple(first + index for first, index in zip(
      origin, unravel(tokens, geometry.window), strict=True))
  lead = tuple(jnp.full((size,), index, jnp.int32) for index in lead)
  return Rows((*lead, *place), tokens, real)


def _at(ref, rows: Rows, piece: Piece):
  # Arrays alone: indexing by arrays and slices at once cannot be interpreted.
  columns = piece.start + jnp.arange(piece.size, dtype=jnp.int32)
  return ref.at[(*(index[:, None] for index in rows.place), columns[None])]


def _mask(rows: Rows, piece: Piece) -> jax.Array | None:
  real_columns = None
  if piece.real < piece.size:
    real_columns = (jnp.arange(piece.size) < piece.real)[None]
  if rows.real is None:
    return real_columns
  real_rows = rows.real[:, None]
  return real_rows if real_columns is None else real_rows & real_columns


def load_columns(ref, rows: Rows, pieces: tuple[Piece, ...]) -> Columns:
  """Reads rows of a head from a block [.., d]."""
  out = []
  for piece in pieces:
    at, mask = _at(ref, rows, piece), _mask(rows, piece)
    out.append(plgpu.load(at) if mask is None
               else plgpu.load(at, mask=mask, other=0.0))
  return tuple(out)


def store_columns(
    ref, rows: Rows, pieces: tuple[Piece, ...], values: Columns) -> None:
  """Writes rows of a head to a block [.., d], in the block's type."""
  for piece, value in zip(pieces, values, strict=True):
    plgpu.store(_at(ref, rows, piece), value.astype(ref.dtype),
                mask=_mask(rows, piece))


def _vector_at(ref, piece: Piece):
  columns = piece.start + jnp.arange(piece.size, dtype=jnp.int32)
  real = (None if piece.real == piece.size
          else jnp.arange(piece.size) < piece.real)
  return ref.at[columns], real


def load_vector(ref, pieces: tuple[Piece, ...]) -> tuple[jax.Array, ...]:
  """Reads a vector [d] by pieces."""
  out = []
  for piece in pieces:
    at, real = _vector_at(ref, piece)
    out.append(plgpu.load(at, mask=real, other=None if real is None else 0.))
  return tuple(out)


def store_vector(
    ref, pieces: tuple[Piece, ...], values: tuple[jax.Array, ...]) -> None:
  """Writes a vector [d] by pieces."""
  for piece, value in zip(pieces, values, strict=True):
    at, real = _vector_at(ref, piece)
    plgpu.store(at, value, mask=real)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """[m, k] by [k, n] in float32 (TF32 products of float32 operands)."""
  return jax.lax.dot_general(
      a, b, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def dot_columns(a: Columns, b: Columns) -> jax.Array:
  """Products [m, n] of rows [m, d] with rows [n, d], in float32."""
  first, *rest = (dot(x, y.T) for x, y in zip(a, b, strict=True))
  return sum(rest, first)


def zeros(rows: int, pieces: tuple[Piece, ...]) -> Columns:
  """Rows to add to, in float32."""
  return tuple(jnp.zeros((rows, p.size), jnp.float32) for p in pieces)


@dataclasses.dataclass(frozen=True)
class Normalized:
  """Rows after LayerNorm, and what its gradient needs.

  Attributes:
    value: Normalised rows, in the compute type.
    centred: (x - mean) / deviation in float32.
    inverse: 1 / deviation, [rows, 1].
  """
  value: Columns
  centred: Columns
  inverse: jax.Array


def normalize(
    x: Columns, scale: tuple[jax.Array, ...], head_dim: int, epsilon: float,
) -> Normalized:
  """LayerNorm with scale, without bias, in float32."""
  raw = [piece.astype(jnp.float32) for piece in x]
  mean = sum(p.sum(1, keepdims=True) for p in raw) / head_dim
  square = sum((p * p).sum(1, keepdims=True) for p in raw) / head_dim
  inverse = jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0.) + epsilon)
  centred = tuple((p - mean) * inverse for p in raw)
  value = tuple((c * s[None]).astype(p.dtype)
                for c, s, p in zip(centred, scale, x, strict=True))
  return Normalized(value, centred, inverse)


def normalize_gradient(
    gradient: Columns, normalized: Normalized,
    scale: tuple[jax.Array, ...], head_dim: int,
) -> tuple[Columns, tuple[jax.Array, ...]]:
  """Gradients of the rows and of the scale, the latter summed over rows."""
  scaled = [g * s[None] for g, s in zip(gradient, scale, strict=True)]
  centred = normalized.centred
  mean = sum(g.sum(1, keepdims=True) for g in scaled) / head_dim
  along = sum((g * c).sum(1, keepdims=True)
              for g, c in zip(scaled, centred, strict=True)) / head_dim
  rows = tuple((g - mean - c * along) * normalized.inverse
               for g, c in zip(scaled, centred, strict=True))
  of_scale = tuple((g * c).sum(0)
                   for g, c in zip(gradient, centred, strict=True))
  return rows, of_scale
