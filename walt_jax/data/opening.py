"""Opening data by name: folders, TFDS sets, and mixtures of them."""
from collections.abc import Sequence

from walt_jax import errors
from walt_jax.data import mixture
from walt_jax.data import sources

_TFDS = 'tfds:'


def open_source(path: str, split: str, weights: Sequence[float] = ()
                ) -> sources.Source:
  """Opens one split of one or more sets.

  Args:
    path: Folders that `walt data prepare` wrote, or 'tfds:NAME[@DATA_DIR]';
      several are separated by commas.
    split: 'train' or 'heldout'.
    weights: Shares of the sets in a batch; () is by their sizes.

  Raises:
    errors.UserError: Data that are missing, or not a weight for each.
  """
  paths = [one.strip() for one in path.split(',') if one.strip()]
  parts = [_open_one(one, split) for one in paths]
  if not parts:
    raise errors.UserError(f'no data in {path!r}')
  if len(parts) == 1 and len(weights) < 2:
    return parts[0]
  if weights and len(weights) != len(parts):
    raise errors.UserError(
        f'{len(parts)} data sets but {len(weights)} weights: give one for each')
  try:
    return mixture.Mixture(parts, list(weights) or [len(p) for p in parts])
  except ValueError as error:
    raise errors.UserError(f'data weights: {error}') from error


def _open_one(path: str, split: str) -> sources.Source:
  if not path.startswith(_TFDS):
    return sources.PreparedDataset(path, split)
  from walt_jax.data import tfds_source
  name, _, data_dir = path.removeprefix(_TFDS).partition('@')
  return tfds_source.TfdsSource(name, split, data_dir or None)
