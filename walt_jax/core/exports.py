"""Models as `model.safetensors` + `config.json`: read without running code."""
from collections.abc import Iterator, Mapping
import pathlib
import shutil
from typing import Any

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from walt_jax.core import errors
from walt_jax.core import fetched
from walt_jax.core import files
from walt_jax.core import paths

MODEL_FILE = 'model.safetensors'
CONFIG_FILE = 'config.json'


def flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Returns {'a/b': leaf} of nested dicts; empty dicts vanish.

  Raises:
    ValueError: If a key is not a string or holds a slash.
  """
  return dict(_walk(tree, prefix))


def _walk(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
  for key, value in tree.items():
    if not isinstance(key, str) or '/' in key or not key:
      raise ValueError(f'Cannot export the key {key!r} under {prefix!r}: '
                       'keys are non-empty strings without a slash.')
    if isinstance(value, Mapping):
      yield from _walk(value, f'{prefix}{key}/')
    else:
      yield f'{prefix}{key}', value


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Inverse of `flatten`.

  Raises:
    ValueError: A name is another one's beginning.
  """
  tree: dict[str, Any] = {}
  for name, value in flat.items():
    *parents, leaf = name.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
      if not isinstance(node, dict):
        raise ValueError(f'{name!r} lies inside of an array')
    if leaf in node:
      raise ValueError(f'{name!r} is an array, and others lie inside')
    node[leaf] = value
  return tree


def save_export(
    directory: str | pathlib.Path,
    params: Mapping[str, Any],
    config: Mapping[str, Any],
) -> str:
  """Writes an export; an older one is replaced only when all is written.

  Args:
    directory: The export's own: whatever it holds is replaced.
    params: Nested dict of arrays; anything `np.asarray` takes.
    config: Plain JSON values.

  Returns:
    The sha256 of `model.safetensors`, in hex digits.
  """
  # 0-d arrays stay 0-d and every array is contiguous in C order, which the
  # format needs.
  arrays = {name: np.array(value, order='C')
            for name, value in flatten(params).items()}
  with files.replaced_folder(directory) as partial:
    files.write_json(partial / CONFIG_FILE, config, sort_keys=True)
    safetensors_numpy.save_file(arrays, partial / MODEL_FILE)
    # `save_file` lets nobody but the owner read; the umask decides here.
    shutil.copymode(partial / CONFIG_FILE, partial / MODEL_FILE)
    return files.file_sha256(partial / MODEL_FILE)


def copy_export(source: str | pathlib.Path,
                target: str | pathlib.Path) -> None:
  """Copies an export; an older one is replaced only when all is written."""
  with files.replaced_folder(target) as partial:
    for name in (MODEL_FILE, CONFIG_FILE):
      paths.download(paths.path(source) / name, partial / name)


def load_export(
    directory: str | pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads an export into (nested dict of NumPy arrays, config).

  Raises:
    UserError: If a file is missing or damaged.
  """
  directory = paths.path(directory)
  for name in (MODEL_FILE, CONFIG_FILE):
    if not (directory / name).is_file():
      raise errors.UserError(
          f'{directory} is no export: it has no {name}; `walt export` or '
          'tokenizer training writes one')
  config = files.read_json(directory / CONFIG_FILE)
  if not isinstance(config, dict):
    raise errors.UserError(
        f'{directory / CONFIG_FILE} is no config: {errors.short(config)}; '
        'export again')
  try:
    flat = safetensors_numpy.load_file(fetched.local(directory / MODEL_FILE))
    return unflatten(flat), config
  except (safetensors.SafetensorError, LookupError, TypeError,
          ValueError) as error:  # A type that NumPy does not know, for one.
    raise errors.UserError(
        f'{directory / MODEL_FILE} cannot be read ({errors.words(error)}); '
        'export again') from error
