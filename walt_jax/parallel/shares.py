"""Numbered pieces of work, dealt to the processes and put together again.

What piece number i gives depends on i alone, so that it does not matter who
does it. One process does all and sends nothing.
"""
from collections.abc import Iterator, Sequence
import dataclasses
import math

import jax
import numpy as np

from walt_jax.parallel import multihost

Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Shares:
  """Pieces 0 .. total - 1; a process does every P-th batch of them.

  Attributes:
    total: Number of pieces.
    batch: Consecutive ones that are done at once. Batches are those that one
      process makes where there are enough of them for all.
    process: This process.
    num_processes: P.
  """
  total: int
  batch: int
  process: int = 0
  num_processes: int = 1

  @classmethod
  def of(cls, total: int, batch: int, multiple: int = 1) -> 'Shares':
    """Deals to the processes that there are.

    Args:
      total: Number of pieces.
      batch: Most pieces in a batch.
      multiple: A divisor of batches that are smaller than that.
    """
    count = jax.process_count()
    each = math.ceil(total / (count * multiple)) * multiple
    return cls(total, max(1, min(batch, each)), jax.process_index(), count)

  def mine(self) -> list[int]:
    """The numbers of this process's pieces, in order."""
    return self.of_process(self.process)

  def of_process(self, process: int) -> list[int]:
    """The numbers of a process's pieces, in order."""
    starts = range(process * self.batch, self.total,
                   self.num_processes * self.batch)
    return [number for start in starts
            for number in range(start, min(start + self.batch, self.total))]

  def batches(self) -> list[range]:
    """`mine` by batches."""
    starts = range(self.process * self.batch, self.total,
                   self.num_processes * self.batch)
    return [range(start, min(start + self.batch, self.total))
            for start in starts]

  def padded(self) -> list[int]:
    """`mine`, with the last piece again to fill one batch; [] of nothing.

    A program then has the same shape in every process.
    """
    mine = self.mine()
    return mine + mine[-1:] * (self.batch - len(mine))

  def together(self, made: Iterator[Arrays]) -> Iterator[tuple[int, Arrays]]:
    """Yields all pieces in every process: number and arrays.

    They come a round at a time, one of each process, so that no process holds
    more than that: in order within a process's share, not among all.

    Args:
      made: The arrays of `padded`, as many and of the same shapes and types
        for every piece.
    """
    if self.num_processes == 1:
      yield from zip(self.mine(), made, strict=True)
      return
    owned = [self.of_process(p) for p in range(self.num_processes)]
    forms: list[tuple[Sequence[int], str]] = []
    for turn in range(len(owned[0])):  # Nobody has more than the first.
      arrays = None
      if turn < len(owned[self.process]):
        arrays = tuple(np.asarray(array) for array in next(made))
      if not forms:  # Who has nothing does not know them.
        forms = multihost.of_main(
            [(a.shape, a.dtype.str) for a in arrays or ()])
      if arrays is None:
        arrays = tuple(np.zeros(shape, kind) for shape, kind in forms)
      gathered = [multihost.gather(array) for array in arrays]
      for process, numbers in enumerate(owned):
        if turn < len(numbers):
          yield numbers[turn], tuple(array[process] for array in gathered)
