"""A small table beside the shards: extent, rate and class of every clip.

It lets a reader leave out clips that are too short, sort them by shape, and
tell what a set holds without opening it. One row a clip, in their order.
"""
import io
import pathlib
from typing import Any

import numpy as np

from walt_jax.core import array_files
from walt_jax.core import files
from walt_jax.core import paths

DTYPE = np.dtype([('num_frames', '<i4'), ('height', '<i4'), ('width', '<i4'),
                  ('fps', '<f4'), ('label', '<i4')])


def to_bytes(rows: list[tuple] | np.ndarray) -> bytes:
  """The table as a .npy file."""
  out = io.BytesIO()
  np.save(out, np.array(rows, DTYPE))
  return out.getvalue()


def read(path: pathlib.Path) -> np.ndarray:
  """Maps a table of DTYPE [N] into memory; reads one that lies in a bucket.

  Raises:
    ValueError: It is damaged.
  """
  if paths.is_remote(path):
    with files.opened(path) as file:
      return _checked(array_files.load(file))
  return _checked(array_files.load(path, mmap_mode='r'))


def _checked(table: Any) -> np.ndarray:
  if not isinstance(table, np.ndarray) or table.dtype != DTYPE or (
      table.ndim != 1):
    raise ValueError('it is not a table of clips')
  return table
