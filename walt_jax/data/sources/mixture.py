"""Several sources as one: mixed by weights, and under joint class names."""
from collections.abc import Sequence
import functools
import itertools

import numpy as np

from walt_jax.data.sources import source as source_lib

MAX_PARTS = 500


class Mixture:
  """Sources one after the other, which batches mix by weight.

  Attributes:
    classes: Class names of all parts, equal names once.
    weights: Weight of each part.
    ranges: Indices of each part's examples.
  """

  def __init__(self, parts: Sequence[source_lib.Source],
               weights: Sequence[float]):
    """Joins sources.

    Args:
      parts: Each a source of its own; one may be empty.
      weights: One a part; row counts are in these proportions.
    """
    if len(parts) != len(weights) or not parts:
      raise ValueError(f'{len(parts)} sources but {len(weights)} weights.')
    check_weights(weights)
    self._parts, self.weights = list(parts), tuple(weights)
    self.classes = joint_classes(parts)
    self._labels = [_label_ids(part.classes, self.classes) for part in parts]
    self._joined = source_lib.Concatenation(
        [Relabelled(part, self.classes) for part in parts])
    starts = [0, *itertools.accumulate(len(part) for part in parts)]
    self.ranges = tuple(map(range, starts, starts[1:]))

  def __getstate__(self):  # Worker processes do without the joined table.
    return {name: value for name, value in self.__dict__.items()
            if name != 'index'}

  def __len__(self) -> int:
    return len(self._joined)

  def __getitem__(self, index: int) -> dict:
    return self._joined[index]

  @functools.cached_property
  def index(self) -> np.ndarray | None:
    """The parts' tables, joined; None where a part has none."""
    tables = [part.index for part in self._parts if hasattr(part, 'index')]
    if len(tables) < len(self._parts):
      return None
    joined: np.ndarray = np.concatenate(tables)
    for labels, own in zip(self._labels, self.ranges, strict=True):
      rows = slice(own.start, own.stop)
      joined['label'][rows] = labels[joined['label'][rows]]
    return joined


class Relabelled:
  """A source whose labels count in a longer list of classes.

  Attributes:
    classes: All names, those of the source among them.
  """

  def __init__(self, source: source_lib.Source, classes: tuple[str, ...]):
    self.source, self.classes = source, classes
    self._labels = _label_ids(source.classes, classes)

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> dict:
    example = dict(self.source[index])
    example['label'] = int(self._labels[example['label']])
    return example

  @property
  def index(self) -> np.ndarray | None:
    """The source's table, for shapes and lengths; labels are its own."""
    return getattr(self.source, 'index', None)


def check_weights(weights: Sequence[float]) -> None:
  """Raises ValueError unless weights are positive, at least one and few."""
  shares = np.array(weights, np.float64)
  if not 1 <= len(shares) <= MAX_PARTS or not (
      (shares > 0) & np.isfinite(shares)).all():
    raise ValueError(f'Weights are 1 to {MAX_PARTS} positive numbers, got '
                     f'{list(weights)}.')


def joint_classes(parts: Sequence[source_lib.Source]) -> tuple[str, ...]:
  """Class names of several sources, equal names once."""
  return tuple(dict.fromkeys(
      name for part in parts for name in part.classes))


def _label_ids(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
  """Place of each name among `classes`, int32."""
  ids = {name: number for number, name in enumerate(classes)}
  return np.array([ids[name] for name in names], np.int32)
