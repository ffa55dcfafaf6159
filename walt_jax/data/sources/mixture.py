"""Several sources as one: mixed by weights, and under joint class names."""
import bisect
from collections.abc import Sequence
import functools
import itertools

import numpy as np

from walt_jax.data.sources import source as source_lib
from walt_jax.data.stream import order as order_lib


class Mixture:
  """Sources one after the other; `order` mixes them by weight.

  Attributes:
    classes: Class names of all parts, equal names once.
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
    order_lib.Schedule(weights, 0)  # Checks them.
    self._parts, self._weights = list(parts), list(weights)
    self._starts = [0, *itertools.accumulate(len(part) for part in parts)]
    self.classes = joint_classes(parts)
    self._labels = [_label_ids(part.classes, self.classes) for part in parts]

  def __getstate__(self):  # Worker processes do without the joined table.
    return {name: value for name, value in self.__dict__.items()
            if name != 'index'}

  def __len__(self) -> int:
    return self._starts[-1]

  def __getitem__(self, index: int) -> dict:
    if not 0 <= index < len(self):
      raise IndexError(f'Example {index} of {len(self)}.')
    part = bisect.bisect_right(self._starts, index) - 1
    example = dict(self._parts[part][index - self._starts[part]])
    example['label'] = int(self._labels[part][example['label']])
    return example

  @functools.cached_property
  def index(self) -> np.ndarray | None:
    """The parts' tables, joined; None where a part has none."""
    tables = [part.index for part in self._parts if hasattr(part, 'index')]
    if len(tables) < len(self._parts):
      return None
    joined: np.ndarray = np.concatenate(tables)
    for labels, start, stop in zip(self._labels, self._starts,
                                   self._starts[1:], strict=False):
      joined['label'][start:stop] = labels[joined['label'][start:stop]]
    return joined

  def order(self, members: np.ndarray | None, seed: int,
            shuffle: bool) -> order_lib.Order:
    """Mixes the parts, each in epochs of its own.

    Args:
      members: Sorted indices that may be shown; None is all. A part with no
        member gives its share to the others.
      seed: Random seed of all orders.
      shuffle: False keeps each part in its order.
    """
    orders, weights = [], []
    for number, (start, stop) in enumerate(
        zip(self._starts, self._starts[1:], strict=False)):
      if members is None:
        own: range | np.ndarray = range(start, stop)
      else:
        own = members[np.searchsorted(members, start):
                      np.searchsorted(members, stop)]
      if len(own):
        orders.append(order_lib.Epochs(own, seed + number, shuffle))
        weights.append(self._weights[number])
    if not orders:
      raise ValueError('The source is empty.')
    return order_lib.Interleaved(orders, weights, seed)


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


def joint_classes(parts: Sequence[source_lib.Source]) -> tuple[str, ...]:
  """Class names of several sources, equal names once."""
  return tuple(dict.fromkeys(
      name for part in parts for name in part.classes))


def _label_ids(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
  """Place of each name among `classes`, int32."""
  ids = {name: number for number, name in enumerate(classes)}
  return np.array([ids[name] for name in names], np.int32)


def order_of(source: source_lib.Source, members: np.ndarray | None, seed: int,
             shuffle: bool) -> order_lib.Order:
  """The order of a source's rows; a mixture has one of its own."""
  if isinstance(source, Relabelled):
    return order_of(source.source, members, seed, shuffle)
  if isinstance(source, Mixture):
    return source.order(members, seed, shuffle)
  return order_lib.Epochs(range(len(source)) if members is None else members,
                          seed, shuffle)
