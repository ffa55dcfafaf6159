"""Frames of any size in overlapping tiles.

With the norm 'position' an output depends on a bounded neighbourhood, the
halo: tiles that overlap by it give exactly what the whole frame gives. With
'group' every output depends on its whole frame; `blend` is for those.
"""
from collections.abc import Callable, Iterator
import dataclasses

import jax
import numpy as np

from walt_jax.tokenizer import autoencoder as autoencoder_lib

Apply = Callable[[np.ndarray], jax.Array | np.ndarray]


def halo(module: autoencoder_lib.Autoencoder, method: str) -> int:
  """Latent cells around a cell that its encoding (or decoding) depends on.

  Raises:
    ValueError: For a norm over whole frames, where there is no bound.
  """
  if module.norm != 'position':
    raise ValueError(
        f'norm {module.norm!r} makes every output depend on its whole frame: '
        "tiles are exact with norm='position' only; use `blend`.")
  block = 2 * (module.kernel_size[1] // 2)  # Two convolutions.
  level = module.blocks_per_level * block
  middle = module.middle_blocks * block
  levels = len(module.level_strides)
  if method == 'encode':
    # From the latents backwards; strided convolutions reach to the right.
    reach = middle + level
    for _ in range(levels):
      reach = 2 * reach + 1 + level
    reach += module.stem_kernel[1] // 2
    return -(-reach // 2**levels)
  if method != 'decode':
    raise ValueError(f"method {method!r} is neither 'encode' nor 'decode'.")
  reach = module.head_kernel[1] // 2 + level
  for _ in range(levels):
    reach = -(-reach // 2) + module.kernel_size[1] // 2 + level
  return reach + middle + 1


@dataclasses.dataclass(frozen=True)
class Tile:
  """One stretch of an axis, in latent cells.

  Attributes:
    start: First cell that is computed.
    stop: One past the last one.
    keep_start: First cell that is kept.
    keep_stop: One past the last one.
  """
  start: int
  stop: int
  keep_start: int
  keep_stop: int


def tiles(length: int, tile: int, margin: int) -> list[Tile]:
  """Covers `length` cells by equally long tiles that keep disjoint cells.

  Args:
    length: Cells of the axis.
    tile: Cells that are kept of each tile (but the last).
    margin: Cells computed on either side for nothing, inside the frame.
  """
  if tile < 1:
    raise ValueError(f'A tile of {tile} cells keeps nothing.')
  window = min(length, tile + 2 * margin)
  result = []
  for keep_start in range(0, length, tile):
    keep_stop = min(keep_start + tile, length)
    # Pushed inside the frame: one shape, so one compiled program.
    start = min(max(keep_start - margin, 0), length - window)
    result.append(Tile(start, start + window, keep_start, keep_stop))
  return result


def _regions(x: np.ndarray, cell: int, tile: tuple[int, int], margin: int
             ) -> Iterator[tuple[np.ndarray, Tile, Tile]]:
  """Yields (window of `x`, its rows, its columns)."""
  for rows in tiles(x.shape[2] // cell, tile[0], margin):
    for columns in tiles(x.shape[3] // cell, tile[1], margin):
      yield (x[:, :, rows.start * cell:rows.stop * cell,
               columns.start * cell:columns.stop * cell], rows, columns)


def exact(apply: Apply, module: autoencoder_lib.Autoencoder, method: str,
          x: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
  """Encodes or decodes frames tile by tile, equal to the whole.

  Args:
    apply: Function that would map the whole: pixels [B, 1+T, H, W, 3] to
      latents, or latents [B, 1+t, h, w, c] to pixels.
    module: The network in it, with norm 'position'.
    method: 'encode' or 'decode'.
    x: Pixels or latents.
    tile: Rows and columns of a tile, in latent cells, without its halo.

  Returns:
    What `apply(x)` is, on the host.
  """
  margin = halo(module, method)
  cell_in, cell_out = ((module.f_s, 1) if method == 'encode' else
                       (1, module.f_s))
  result = None
  for window, rows, columns in _regions(x, cell_in, tile, margin):
    out = np.asarray(apply(window))
    if result is None:
      result = np.zeros((*out.shape[:2], x.shape[2] // cell_in * cell_out,
                         x.shape[3] // cell_in * cell_out, out.shape[-1]),
                        out.dtype)
    result[:, :, rows.keep_start * cell_out:rows.keep_stop * cell_out,
           columns.keep_start * cell_out:columns.keep_stop * cell_out] = out[
               :, :, _kept(rows, cell_out), _kept(columns, cell_out)]
  return result


def blend(apply: Apply, module: autoencoder_lib.Autoencoder, method: str,
          x: np.ndarray, tile: tuple[int, int], overlap: int) -> np.ndarray:
  """As `exact`, but with a chosen overlap and linear cross-fades.

  An approximation for any norm: cheap where the exact halo (about 18 cells in
  the paper's decoder) is dear, with an error that the caller should measure.

  Args:
    apply: Function of the whole, as in `exact`.
    module: The network in it.
    method: 'encode' or 'decode'.
    x: Pixels or latents.
    tile: Rows and columns of a tile, in latent cells, without its overlap.
    overlap: Cells that a tile reaches beyond its own on either side.
  """
  cell_in, cell_out = ((module.f_s, 1) if method == 'encode' else
                       (1, module.f_s))
  total = weights = None
  for window, rows, columns in _regions(x, cell_in, tile, overlap):
    out = np.asarray(apply(window), np.float32)
    if total is None:
      shape = (x.shape[2] // cell_in * cell_out,
               x.shape[3] // cell_in * cell_out)
      total = np.zeros((*out.shape[:2], *shape, out.shape[-1]), np.float32)
      weights = np.zeros((*shape, 1), np.float32)
    weight = (_ramp(rows, overlap, cell_out)[:, None] *
              _ramp(columns, overlap, cell_out))[..., None]
    where = (slice(rows.start * cell_out, rows.stop * cell_out),
             slice(columns.start * cell_out, columns.stop * cell_out))
    total[:, :, where[0], where[1]] += out * weight
    weights[where] += weight
  return total / weights


def _kept(tile: Tile, cell: int) -> slice:
  """The kept cells, counted from the tile's start."""
  return slice((tile.keep_start - tile.start) * cell,
               (tile.keep_stop - tile.start) * cell)


def _ramp(tile: Tile, overlap: int, cell: int) -> np.ndarray:
  """Weight of each output row: 1 at kept cells, falling to 0 outside."""
  position = np.arange((tile.stop - tile.start) * cell) + 0.5
  kept = _kept(tile, cell)
  outside = np.maximum(kept.start - position, position - kept.stop)
  reach = overlap * cell
  # Half inside, half outside the border, so that two neighbours sum to 1.
  return np.clip(0.5 - outside / (2 * reach + 1e-6), 1e-6, 1.0).astype(
      np.float32)
