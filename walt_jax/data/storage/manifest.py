"""The manifest of a prepared dataset or of a latent cache."""
from collections.abc import Mapping
import os
import shlex
from typing import Any

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import json_kinds
from walt_jax.core import paths

MANIFEST = 'manifest.json'
DATASET_FORMAT = 'walt_dataset'
LATENTS_FORMAT = 'walt_latents'

_SHARD: json_kinds.Kind = {'file': str, 'num_examples': int, 'bytes?': int}
_MAX_EXTENT = 1 << 20  # Of an array of latents.
_MAX_EXAMPLES = 1 << 40  # Of a shard.
_COUNTS = Mapping[str, int]
# What readers rely on; more may be there.
_FORM: json_kinds.Kind = {
    'format?': str, 'classes?': list[str], 'codec?': str,
    'splits': Mapping[str, Any], 'counts?': _COUNTS, 'captions?': _COUNTS,
    'shapes?': Mapping[str, list[int]], 'settings?': Mapping[str, Any],
    'left_out?': Mapping[str, list[str]], 'task_sha256?': str,
    'caption_limit?': {'encoder': str, 'max_tokens': int},
    'frame_folders?': {'count?': int, 'fps?': float | None}}
_SPLIT: json_kinds.Kind = {
    'shards': list[Any], 'text?': list[Any], 'num_examples?': int,
    'index?': str}
_LATENTS: json_kinds.Kind = {
    'tokenizer_sha256': str, 'text_sha256': str | None,
    'fps': float | None}


def read_manifest(path: str | os.PathLike) -> dict:
  """Reads the manifest of a prepared dataset or of a latent cache."""
  file = paths.path(path) / MANIFEST
  if not file.exists():
    source, output = hinted_folders(path)
    raise errors.UserError(
        f'{str(path)!r} is not a prepared dataset (no {MANIFEST}): make one '
        f'with `walt data prepare --input {source} --output {output}`'
        + (f' and give {output}' if holds_files(path) else ''))
  manifest = files.read_json(file)
  if not isinstance(manifest, dict) or 'splits' not in manifest:
    raise errors.UserError(
        f'{str(file)!r} is not a manifest of `walt data prepare`')
  try:
    _check(manifest)
  except ValueError as error:
    raise errors.UserError(
        f'{str(file)!r} is damaged: {error}; prepare again') from None
  return manifest


def _check(manifest: dict) -> None:
  """Raises ValueError for a manifest of another form than is written."""
  json_kinds.check(manifest, _FORM)
  if manifest.get('format') == LATENTS_FORMAT:
    json_kinds.check(manifest, {'settings': _LATENTS, 'shapes': Any,
                                'classes': Any})
  elif 'codec' in manifest:  # Older versions wrote none.
    json_kinds.check(manifest, {'classes': Any})
    for split, entry in manifest['splits'].items():
      json_kinds.check(entry, {'index': str}, f'splits.{split}')
  for name, shape in manifest.get('shapes', {}).items():
    if not all(0 <= extent < _MAX_EXTENT for extent in shape):
      raise ValueError(f'shapes.{name} is {shape}')
  for split, entry in manifest['splits'].items():
    where = f'splits.{split}'
    json_kinds.check(entry, _SPLIT, where)
    for role in ('shards', 'text'):
      for number, shard in enumerate(entry.get(role, ())):
        json_kinds.check(shard, _SHARD, f'{where}.{role}[{number}]')
        if not 0 <= shard['num_examples'] < _MAX_EXAMPLES:
          raise ValueError(f'{where}.{role}[{number}] has '
                           f'{shard["num_examples"]} examples')
        _check_name(shard['file'])
    if 'index' in entry:
      _check_name(entry['index'])


def _check_name(name: str) -> None:
  """A set's files lie in its own folder."""
  if not files.is_name(name):
    raise ValueError(
        f'{errors.short(name)} is not the name of a file beside it')


def hinted_folders(path: str | os.PathLike, source: str = 'VIDEOS'
                   ) -> tuple[str, str]:
  """What a hint for a path without a dataset names as --input and --output.

  A folder that holds files already, such as raw videos, becomes the input and
  is never proposed as the output.

  Args:
    path: What was given where a dataset is needed.
    source: The input's name where `path` cannot be it.

  Returns:
    Both, quoted for a shell.
  """
  if not holds_files(path):
    return source, shlex.quote(str(path))
  folder = paths.path(path)
  if not folder.is_dir():
    folder = folder.parent
  if not folder.name:  # Such as '.'.
    folder = paths.absolute(folder)
  output = folder.with_name(f'{folder.name}_prepared')
  return shlex.quote(str(folder)), shlex.quote(str(output))


def holds_files(path: str | os.PathLike) -> bool:
  """Whether something lies there already: a file, or a folder with content."""
  path = paths.path(path)
  if not path.is_dir():
    return path.exists()
  return any(not entry.name.startswith('.') for entry in path.iterdir())
