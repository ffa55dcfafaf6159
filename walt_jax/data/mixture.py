"""Several sources as one, mixed by weights, whatever their sizes."""
import bisect
from collections.abc import Sequence
import functools
import itertools

import numpy as np

from walt_jax.data import order as order_lib
from walt_jax.data import sources


class Mixture:
  """Sources one after the other; `order` mixes them by weight.

  Attributes:
    classes: Class names of all parts, equal names once.
  """

  def __init__(self, parts: Sequence[sources.Source],
               weights: Sequence[float]):
    """Joins sources.

    Args:
      parts: Each a source of its own.
      weights: One a part; row counts are in these proportions.
    """
    if len(parts) != len(weights) or not parts:
      raise ValueError(f'{len(parts)} sources but {len(weights)} weights.')
    order_lib.Schedule(weights, 0)  # Checks them.
    self._parts, self._weights = list(parts), list(weights)
    self._starts = [0, *itertools.accumulate(len(part) for part in parts)]
    self.classes = tuple(dict.fromkeys(
        name for part in parts for name in part.classes))
    ids = {name: number for number, name in enumerate(self.classes)}
    self._labels = [np.array([ids[name] for name in part.classes], np.int32)
                    for part in parts]

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
      seed: Of all orders.
      shuffle: False keeps each part in its order.
    """
    orders, weights = [], []
    for number, (start, stop) in enumerate(
        zip(self._starts, self._starts[1:], strict=False)):
      if members is None:
        own = np.arange(start, stop)
      else:
        own = members[np.searchsorted(members, start):
                      np.searchsorted(members, stop)]
      if len(own):
        orders.append(order_lib.Epochs(own, seed + number, shuffle))
        weights.append(self._weights[number])
    if not orders:
      raise ValueError('The source is empty.')
    return order_lib.Interleaved(orders, weights, seed)


def order_of(source: sources.Source, members: np.ndarray | None, seed: int,
             shuffle: bool) -> order_lib.Order:
  """The order of a source's rows; a mixture has one of its own."""
  if isinstance(source, Mixture):
    return source.order(members, seed, shuffle)
  return order_lib.Epochs(len(source) if members is None else members, seed,
                          shuffle)
