"""The manifest of a prepared dataset or of a latent cache."""
import os
import shlex

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import paths

MANIFEST = 'manifest.json'
DATASET_FORMAT = 'walt_dataset'


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
  return manifest


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
