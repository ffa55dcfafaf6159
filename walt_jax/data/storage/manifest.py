"""The manifest of a prepared dataset or of a latent cache."""
import pathlib

from walt_jax.core import errors
from walt_jax.core import files

MANIFEST = 'manifest.json'
DATASET_FORMAT = 'walt_dataset'


def read_manifest(path: str | pathlib.Path) -> dict:
  """Reads the manifest of a prepared dataset or of a latent cache."""
  file = pathlib.Path(path) / MANIFEST
  if not file.exists():
    raise errors.UserError(
        f'{str(path)!r} is not a prepared dataset (no {MANIFEST}): make one '
        f'with `walt data prepare --input VIDEOS --output {path}`')
  manifest = files.read_json(file)
  if not isinstance(manifest, dict) or 'splits' not in manifest:
    raise errors.UserError(
        f'{str(file)!r} is not a manifest of `walt data prepare`')
  return manifest
