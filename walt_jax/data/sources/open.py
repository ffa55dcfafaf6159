"""Opening data by name: folders, TFDS sets, and mixtures of them."""
from collections.abc import Callable, Sequence

from walt_jax.core import errors
from walt_jax.data.sources import mixture
from walt_jax.data.sources import source
from walt_jax.data.storage import dataset as dataset_lib

_TFDS = 'tfds:'
OpenOne = Callable[[str, str], source.Source]


def names_in(path: str) -> list[str]:
  """The sets that a path names, separated by commas."""
  return [one.strip() for one in path.split(',') if one.strip()]


def open_dataset(path: str, split: str) -> source.Source:
  """Opens a prepared folder, or 'tfds:NAME[@DATA_DIR]'.

  Raises:
    errors.UserError: It is not there.
  """
  if not path.startswith(_TFDS):
    return dataset_lib.PreparedDataset(path, split)
  from walt_jax.data.sources import tfds
  name, _, data_dir = path.removeprefix(_TFDS).partition('@')
  return tfds.TfdsSource(name, split, data_dir or None)


def open_source(path: str, split: str, weights: Sequence[float] = (), *,
                open_one: OpenOne = open_dataset) -> source.Source:
  """Opens one split of one or more sets.

  Args:
    path: Sets, separated by commas.
    split: 'train' or 'heldout'.
    weights: Shares of the sets in a batch; () is by their sizes.
    open_one: Opens a set of that name.

  Raises:
    errors.UserError: Data that are missing, or not a weight for each.
  """
  names = names_in(path)
  if not names:
    raise errors.UserError(f'no data in {path!r}')
  if weights and len(weights) != len(names):
    raise errors.UserError(
        f'{len(names)} data sets but {len(weights)} weights: give one for each')
  parts = [open_one(name, split) for name in names]
  if len(parts) == 1:
    return parts[0]
  try:
    return mixture.Mixture(
        parts, list(weights) or [max(1, len(part)) for part in parts])
  except ValueError as error:
    raise errors.UserError(f'data weights: {error}') from error
