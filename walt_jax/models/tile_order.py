"""Tokens of a frame in the order of tiles: windows without transposes.

In raster order the tokens of a window that is narrower than the frame are
short runs, and a frame whose width is no multiple of eight fills no tiles of a
TPU: every layer would lay all tokens out anew, more than once. Ordered tile by
tile, where a tile is what a spatiotemporal window holds of a frame, each
window is a run of each of its frames, and a frame is a run of whole tiles of
memory. Layers see the order in the shape of the grid, (T, 1, H W), and in the
relative bias.
"""
from collections.abc import Sequence
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models import windows


@dataclasses.dataclass(frozen=True)
class TileOrder:
  """The order of a frame's tokens: raster order of tiles and inside of them.

  Attributes:
    grid: (T, H, W).
    tile: (rows, columns) of a tile; tiles the frame.
  """
  grid: windows.Window
  tile: tuple[int, int]

  def apply(self, x: jax.Array) -> jax.Array:
    """[B, T, H, W, D] in raster order to [B, T, 1, H W, D] in this order."""
    frames, rows, columns = self.grid
    x = windows.partition_windows(x, (1, *self.tile))
    return x.reshape(x.shape[0], frames, 1, rows * columns, x.shape[-1])

  def undo(self, x: jax.Array) -> jax.Array:
    """The inverse of `apply`."""
    rows, columns = self.tile
    x = x.reshape(x.shape[0], -1, rows * columns, x.shape[-1])
    return windows.merge_windows(x, (1, *self.tile), self.grid)

  def extent(self, window: windows.Window) -> windows.Window:
    """The extent of a window in the grid (T, 1, H W) of this order."""
    frames, rows, columns = window
    return frames, 1, rows * columns


def tile_order(grid: windows.Window, extents: Sequence[windows.Window]
               ) -> TileOrder | None:
  """The order in which all windows are runs of their frames.

  Args:
    grid: (T, H, W), tokens of a row.
    extents: Extents of windows that tile the grid.

  Returns:
    The order; None where the windows' parts of a frame are neither all of it
    nor of one size.
  """
  frame = grid[1:]
  tile = min((window[1:] for window in extents), key=np.prod)
  if any(window[1:] not in (frame, tile) for window in extents):
    return None
  return TileOrder(grid, tile)


@jax.named_scope('relative_bias')  # By which a ledger knows it.
def relative_bias(table: jax.Array, window: windows.Window,
                  tile: tuple[int, int]) -> jax.Array:
  """As `window_attention.relative_bias`, for tokens in the order of tiles.

  The bias between two tiles depends on the offset between them alone: each
  such block is made once, by a product with a 0/1 matrix, and then put where
  it belongs.

  Args:
    table: float32 [2 wt - 1, 2 wh - 1, 2 ww - 1, K].
    window: (wt, wh, ww), a whole number of tiles.
    tile: (rows, columns) of a tile.

  Returns:
    [K, L, L] bias of query (second axis) and key (third).
  """
  rows, columns = tile
  parts = (window[0], window[1] // rows, window[2] // columns)
  table = jnp.moveaxis(table, -1, 0)
  # What each offset between tiles sees of the table.
  seen = jnp.stack([
      table[:, t, y * rows:(y + 2) * rows - 1,
            x * columns:(x + 2) * columns - 1]
      for t, y, x in np.ndindex(*(2 * n - 1 for n in parts))], axis=1)
  heads, offsets = seen.shape[:2]
  seen = seen.reshape(heads * offsets, -1)
  # Behind the barrier, since XLA would take a minute to fold it.
  index = jax.lax.optimization_barrier(jnp.asarray(_offsets(tile).reshape(-1)))
  select = jnp.arange(seen.shape[1])[:, None] == index
  blocks = jnp.dot(  # Copies, not approximations.
      seen, select.astype(table.dtype), precision=jax.lax.Precision.HIGHEST)
  length = rows * columns
  return _assemble(blocks.reshape(heads, offsets, length, length), parts)


def _offsets(tile: tuple[int, int]) -> np.ndarray:
  """int32 [n, n] of query and key in a tile: where their offset stands in a
  flat table [2 rows - 1, 2 columns - 1]."""
  rows, columns = tile
  y, x = np.divmod(np.arange(rows * columns, dtype=np.int32), columns)
  return ((y[:, None] - y + rows - 1) * (2 * columns - 1) +
          x[:, None] - x + columns - 1)


def _block_indices(parts: windows.Window) -> np.ndarray:
  """[N, N] of the query's and the key's tile of N = prod(parts): the index of
  their block among all offsets between tiles."""
  place = np.stack(np.unravel_index(np.arange(np.prod(parts)), parts))
  last = np.asarray(parts)[:, None, None] - 1
  offset = place[:, :, None] - place[:, None] + last
  return np.ravel_multi_index(
      tuple(offset), tuple(2 * n - 1 for n in parts))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _assemble(blocks: jax.Array, parts: windows.Window) -> jax.Array:
  """[K, offsets, n, n] to [K, N n, N n]; see `_block_indices`.

  The gradient sums each block's places in one pass, where that of
  concatenations would be a sum of padded arrays.
  """
  return jnp.concatenate([
      jnp.concatenate([blocks[:, index] for index in row], axis=2)
      for row in _block_indices(parts)], axis=1)


def _assemble_forward(blocks, parts):
  return _assemble(blocks, parts), None


def _assemble_backward(parts, _, gradient):
  indices = _block_indices(parts)
  size = gradient.shape[1] // len(indices)

  def block(index: int) -> jax.Array:
    places = np.argwhere(indices == index)
    return sum(gradient[:, i * size:(i + 1) * size, j * size:(j + 1) * size]
               for i, j in places)
  return jnp.stack([block(index) for index in range(indices.max() + 1)], 1),


_assemble.defvjp(_assemble_forward, _assemble_backward)
