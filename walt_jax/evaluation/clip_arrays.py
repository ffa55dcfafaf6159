"""Clips in one array file, uint8 [N, T, H, W, 3]."""
import math
import os
import pathlib
import struct
import zipfile

import numpy as np

from walt_jax.core import array_files
from walt_jax.core import errors

_SAMPLES_KEY = 'arr_0'  # Of an `.npz`, as guidance's evaluator reads it.


def is_array(path: pathlib.Path) -> bool:
  """Whether a path is such a file."""
  return path.is_file() and path.suffix.lower() in ('.npy', '.npz')


def read(path: pathlib.Path) -> np.ndarray:
  """Opens an `.npy` or the array `arr_0` of an `.npz`; mapped where it can be.

  Returns:
    uint8 [N, T, H, W, 3]; images [N, H, W, 3] become clips of one frame.

  Raises:
    UserError: Not such an array.
  """
  try:
    with array_files.explained():
      array = (_open_npz(path) if path.suffix.lower() == '.npz' else
               np.load(path, mmap_mode='r', allow_pickle=False))
  except (OSError, ValueError) as error:
    raise errors.UserError(
        f'cannot read {path} as an array ({errors.words(error)}); '
        'save it with numpy.save') from None
  if array.dtype != np.uint8:
    raise errors.UserError(
        f'{path} holds {array.dtype} values; convert to uint8 in 0..255')
  if (array.ndim not in (4, 5) or array.shape[-1] != 3
      or 0 in array.shape):
    raise errors.UserError(
        f'{path} has shape {list(array.shape)}; it must be [N, T, H, W, 3], '
        'or [N, H, W, 3] of images, RGB (repeat a grey channel three times)')
  return array[:, None] if array.ndim == 4 else array


def _open_npz(path: pathlib.Path) -> np.ndarray:
  """The array of clips; mapped, not read, where it is not compressed."""
  name = f'{_SAMPLES_KEY}.npy'
  with zipfile.ZipFile(path) as archive:
    if name not in archive.namelist():
      raise errors.UserError(
          f'{path} has no array {_SAMPLES_KEY}; save the clips with '
          'numpy.savez(FILE, clips)')
  with zipfile.ZipFile(path) as archive, archive.open(name) as member:
    info = archive.getinfo(name)
    version = np.lib.format.read_magic(member)
    read_header = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                   else np.lib.format.read_array_header_2_0)
    shape, is_fortran, dtype = read_header(member)
    header_bytes = member.tell()
  if (info.compress_type != zipfile.ZIP_STORED or is_fortran
      or dtype.hasobject or 0 in shape):
    size = math.prod(shape) * dtype.itemsize
    if size != info.file_size - header_bytes and not dtype.hasobject:
      raise ValueError(f'its header tells of {size} bytes, but it holds '
                       f'{info.file_size - header_bytes}')
    free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if size > free:
      raise ValueError(f'it is compressed, and takes {size} bytes of memory; '
                       f'{free} are free')
    with np.load(path, allow_pickle=False) as arrays:
      return arrays[_SAMPLES_KEY]
  with open(path, 'rb') as file:  # The member's own header in the archive.
    file.seek(info.header_offset + 26)
    lengths = struct.unpack('<HH', file.read(4))
  offset = info.header_offset + 30 + sum(lengths) + header_bytes
  return np.memmap(path, dtype, 'r', offset, shape)
