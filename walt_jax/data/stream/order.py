"""Which example each row shows: endless orders with random access.

An order maps a row's number, counted over the whole run, to the index of an
example. Row 10**9 costs what row 0 costs, which is what lets a run start
anywhere without replay.
"""
from collections.abc import Sequence
import functools
from typing import Protocol

import grain
import numpy as np

from walt_jax.data.sources import mixture
from walt_jax.data.sources import source as source_lib

# Rows within which mixing weights hold exactly; more than a mixture has parts.
_BLOCK = 1000
_SMALL = 1024  # Up to this length, whole permutations are drawn.


class Order(Protocol):
  """An endless sequence of indices of examples."""

  def __getitem__(self, row: int) -> int:
    ...


class Epochs:
  """Every member once an epoch, each epoch in an order of its own."""

  def __init__(self, members: range | np.ndarray, seed: int, shuffle: bool):
    """Orders indices of examples."""
    self._members, self._length = members, len(members)
    self._seed, self._shuffle = seed, shuffle
    if not self._length:
      raise ValueError('The source is empty.')
    self._large = None
    if shuffle and self._length > _SMALL:
      self._large = grain.MapDataset.range(self._length).shuffle(
          seed=seed).repeat()

  def __getitem__(self, row: int) -> int:
    if self._large is not None:
      place = int(self._large[row])
    else:
      epoch, place = divmod(row, self._length)
      if self._shuffle:
        place = int(_permutation(self._length, self._seed, epoch)[place])
    return int(self._members[place])


@functools.lru_cache(maxsize=64)
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
  """Grain's random access into a shuffle takes up to 5 ms for few numbers."""
  return np.random.default_rng([seed, epoch, length]).permutation(length)


class Schedule:
  """Which of several streams each place takes from, by weight.

  Within every block of 1000 places each stream has its share, rounded, in
  an order of that block's own.
  """

  def __init__(self, weights: Sequence[float], seed: int):
    mixture.check_weights(weights)
    shares = np.array(weights, np.float64)
    exact = shares / shares.sum() * _BLOCK
    counts = np.maximum(1, np.floor(exact).astype(int))
    while counts.sum() != _BLOCK:  # At most a step for each stream.
      error = exact - counts
      if counts.sum() < _BLOCK:
        counts[np.argmax(error)] += 1
      else:
        counts[np.argmin(np.where(counts > 1, error, np.inf))] -= 1
    self.counts, self._seed = counts, seed
    self._streams = np.repeat(np.arange(len(counts)), counts)

  def __getitem__(self, place: int) -> tuple[int, int]:
    """The stream of a place, and the number of that stream's places before."""
    block, within = divmod(place, _BLOCK)
    if len(self.counts) == 1:
      return 0, place
    shuffled = np.random.default_rng([self._seed, block]).permutation(
        self._streams)
    stream = int(shuffled[within])
    before = int(np.count_nonzero(shuffled[:within] == stream))
    return stream, block * int(self.counts[stream]) + before


class Interleaved:
  """Several orders, mixed by weight."""

  def __init__(self, orders: Sequence[Order], weights: Sequence[float],
               seed: int):
    self._orders = list(orders)
    self._schedule = Schedule(weights, seed)

  def __getitem__(self, row: int) -> int:
    stream, place = self._schedule[row]
    return self._orders[stream][place]


def order_of(source: source_lib.Source, members: np.ndarray | None, seed: int,
             shuffle: bool) -> Order:
  """The order of a source's rows; of a mixture, each part in its own epochs.

  Args:
    source: The examples.
    members: Sorted indices of those that may be shown; None is all. A part of
      a mixture with no member gives its share to the others.
    seed: Seed of all orders.
    shuffle: False keeps each part in its order.
  """
  if isinstance(source, mixture.Relabelled):
    return order_of(source.source, members, seed, shuffle)
  if not isinstance(source, mixture.Mixture):
    return Epochs(range(len(source)) if members is None else members, seed,
                  shuffle)
  orders, weights = [], []
  for number, (part, weight) in enumerate(
      zip(source.ranges, source.weights, strict=True)):
    own: range | np.ndarray = part
    if members is not None:
      first, last = np.searchsorted(members, (part.start, part.stop))
      own = members[first:last]
    if len(own):
      orders.append(Epochs(own, seed + number, shuffle))
      weights.append(weight)
  if not orders:
    raise ValueError('The source is empty.')
  return Interleaved(orders, weights, seed)
