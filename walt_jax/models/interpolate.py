"""Position tables of a trained denoiser, fitted to another grid and window.

A model trained on square frames continues at 9:16 (section 4.5): its tables are
stretched over the new grid by linear interpolation. Rows and columns are cells
of a frame that keeps its edges, so that a relative offset shrinks by the same
factor as the distance of two cells. Frames keep the first one in its place,
whose embedding images use too, and the last.
"""
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

# (old extent, new extent) -> where the new entries lie among the old ones.
Coordinates = Callable[[int, int], np.ndarray]


def fit_positions(params: Mapping[str, Any], target: Any) -> Any:
  """Fits a denoiser's parameters to one with another grid or windows.

  Args:
    params: Parameters of the trained `Denoiser`, nested dicts of NumPy or JAX
      arrays.
    target: Parameters of the new one, or their shapes (`jax.eval_shape`).

  Returns:
    `params` in the structure of `target`: position tables and relative biases
    interpolated where their shapes differ, everything else as it is.

  Raises:
    ValueError: The two differ in more than grid and windows.
  """
  found = _by_name(params)
  wanted = _by_name(target)
  different = sorted(found.keys() ^ wanted.keys())
  if different:
    where = 'new' if different[0] in wanted else 'trained'
    raise ValueError(f'Only the {where} denoiser has the parameter '
                     f'{different[0]}; both must be of one kind.')
  return jax.tree_util.tree_map_with_path(
      lambda path, leaf: _fit(_name(path), found[_name(path)], leaf.shape),
      target)


def cells(old: int, new: int) -> np.ndarray:
  """Places [new] of the cells of an axis among `old` cells of the same axis."""
  return (np.arange(new) + 0.5) * old / new - 0.5


def frames(old: int, new: int) -> np.ndarray:
  """Places [new] of frames among `old` frames; the first is the first."""
  return np.arange(new) * (old - 1) / max(new - 1, 1)


def cell_offsets(old: int, new: int) -> np.ndarray:
  """Places [2 new - 1] of offsets of cells in a table of 2 old - 1 offsets."""
  return np.arange(1 - new, new) * old / new + old - 1


def frame_offsets(old: int, new: int) -> np.ndarray:
  """Places [2 new - 1] of offsets of frames in a table of 2 old - 1."""
  return np.arange(1 - new, new) * (old - 1) / max(new - 1, 1) + old - 1


def _name(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')


def _by_name(tree: Any) -> dict[str, Any]:
  return {_name(path): leaf
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _fit(name: str, table: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Brings one parameter to `shape`."""
  if table.shape == shape:
    return table
  rank = len(shape)
  is_bias = name.endswith('/attention/relative_bias')
  axes: dict[int, Coordinates] = {}
  if name == 'position/space':
    axes = {0: cells, 1: cells}
  elif name == 'position/time':
    axes = {0: frames}
  elif is_bias:  # [.., 2 wt - 1, 2 wh - 1, 2 ww - 1, K], layers in front.
    axes = {rank - 4: frame_offsets, rank - 3: cell_offsets,
            rank - 2: cell_offsets}
  if table.ndim != rank or any(
      old != new and axis not in axes
      for axis, (old, new) in enumerate(zip(table.shape, shape, strict=True))):
    raise ValueError(
        f'Parameter {name} has shape {table.shape}, but {shape} is needed; '
        'only the grid and the windows may differ.')
  for axis, coordinates in axes.items():
    old, new = table.shape[axis], shape[axis]
    if is_bias:  # The extents of the windows that have so many offsets.
      old, new = (old + 1) // 2, (new + 1) // 2
    table = _interpolate(table, coordinates(old, new), axis)
  return table


def _interpolate(table: jax.Array, places: np.ndarray, axis: int) -> jax.Array:
  """Values of `table` at fractional indices; beyond its ends, those there."""
  count = table.shape[axis]
  places = np.clip(places, 0, count - 1)
  low = np.minimum(np.floor(places).astype(int), max(count - 2, 0))
  high = np.minimum(low + 1, count - 1)
  fraction = (places - low).reshape(-1, *(1,) * (table.ndim - axis - 1))
  fraction = fraction.astype(table.dtype)
  before = (slice(None),) * axis
  return table[*before, low] * (1 - fraction) + table[*before, high] * fraction
