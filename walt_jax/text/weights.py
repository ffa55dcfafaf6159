"""Safetensors folders in the Hugging Face layout: one file, or shards."""
import contextlib
import hashlib
import os
import pathlib
from typing import Any

import numpy as np
import safetensors

from walt_jax.core import errors
from walt_jax.core import fetched
from walt_jax.core import files

SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'


class SafetensorsFolder:
  """Tensors of a folder by name; each is read when it is asked for.

  Attributes:
    path: The folder.
    config: `config.json`.
  """

  def __init__(self, path: str | os.PathLike):
    """Finds the files.

    Raises:
      errors.UserError: No such folder, or not of this layout.
    """
    self.path = fetched.local(path)
    if not self.path.is_dir():
      raise errors.UserError(f'no such folder of text encoder weights: {path}')
    self.config: dict[str, Any] = files.read_json_object(
        self.path / 'config.json')
    if (self.path / INDEX).is_file():
      index = files.read_json_object(self.path / INDEX).get('weight_map')
      if not isinstance(index, dict):
        raise errors.UserError(f'{self.path / INDEX} has no weight_map')
      self._files = {name: self._inside(file) for name, file in index.items()}
    elif (self.path / SINGLE).is_file():
      file = self.path / SINGLE
      with _open(file) as tensors:
        self._files = {name: file for name in tensors.keys()}
    else:
      raise errors.UserError(
          f'{self.path} has neither {SINGLE} nor {INDEX}; convert the weights '
          'to safetensors')

  def _inside(self, name: Any) -> pathlib.Path:
    if not isinstance(name, str) or pathlib.PurePath(name).name != name:
      raise errors.UserError(f'{self.path / INDEX} names '
                             f'{errors.short(name)}, which is '
                             'not a file beside it')
    return self.path / name

  def __contains__(self, name: str) -> bool:
    return name in self._files

  def read(self, name: str, shape: tuple[int, ...] | None = None,
           dtype: Any = np.float32) -> np.ndarray:
    """Reads one tensor as `dtype`, checking its shape if one is given."""
    if name not in self._files:
      raise errors.UserError(f'{self.path} has no tensor {name!r}: these are '
                             'weights of another model')
    with _open(self._files[name]) as tensors:
      if name not in tensors.keys():
        raise errors.UserError(f'{self._files[name]} lacks {name!r}')
      try:
        tensor = tensors.get_tensor(name)
      except (safetensors.SafetensorError, LookupError, TypeError,
              ValueError) as error:  # A type that NumPy does not know.
        raise errors.UserError(
            f'cannot read {name!r} of {self._files[name]}: '
            f'{errors.reason(error)}') from None
    if shape is not None and tensor.shape != shape:
      raise errors.UserError(
          f'{name!r} in {self.path} has shape {list(tensor.shape)}, but its '
          f'config.json asks for {list(shape)}')
    return np.asarray(tensor).astype(dtype)

  def sha256(self) -> str:
    """Hash of the weights: the file's, or of the shards' names and hashes."""
    shards = sorted(set(self._files.values()))
    if len(shards) == 1:
      return files.file_sha256(shards[0])
    lines = ''.join(f'{files.file_sha256(file)}  {file.name}\n'
                    for file in shards)
    return hashlib.sha256(lines.encode()).hexdigest()


@contextlib.contextmanager
def _open(path: pathlib.Path):
  try:
    handle = safetensors.safe_open(path, framework='numpy')
  except (OSError, ValueError, safetensors.SafetensorError) as error:
    raise errors.UserError(
        f'cannot read {path}: {errors.words(error)}') from None
  with handle as tensors:
    yield tensors


