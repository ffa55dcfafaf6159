"""NumPy's files of others: read, or refused with a ValueError.

NumPy hands a header to Python's parser and believes what it says, so that a
damaged file raises whatever these raise.
"""
from collections.abc import Iterator
import contextlib
import os
from typing import Any, BinaryIO, Literal

import numpy as np

from walt_jax.core import errors


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Makes a ValueError of whatever NumPy raises on a file.

  OSError, for files that cannot be read at all, and UserError stay.
  """
  try:
    yield
  except (OSError, errors.UserError):
    raise
  except Exception as error:
    raise ValueError(
        f'damaged, or no file of NumPy ({errors.reason(error)})') from error


def load(file: str | os.PathLike | BinaryIO, *,
         mmap_mode: Literal['r'] | None = None) -> Any:
  """`numpy.load` without pickles: an array, or the members of an `.npz`.

  Members are read when they are taken: inside of `explained`.

  Raises:
    ValueError: Damaged, or not an array.
  """
  with explained():
    return np.load(file, mmap_mode=mmap_mode, allow_pickle=False)


def read_members(file: str | os.PathLike | BinaryIO,
                 left_out: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
  """All arrays of an `.npz`, but for some, by name.

  Raises:
    ValueError: Damaged, or no `.npz`.
  """
  with explained(), np.load(file, allow_pickle=False) as members:
    if not isinstance(members, np.lib.npyio.NpzFile):
      raise ValueError('one array, not the members of an .npz')
    return {name: members[name] for name in members.files
            if name not in left_out}
