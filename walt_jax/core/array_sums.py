"""Checksums of arrays that are added up over their parts.

The sum of an array is that of its elements' bits, each times a weight of its
place, modulo 2^64. Weights are products of one odd number an axis and index,
so a part needs to know only where it begins: however an array is cut, the sums
of the parts add up to that of the whole.

A change of one element always changes the sum, since an odd number times what
is not 0 modulo 2^64 is not 0 either. Other changes go unseen by chance alone,
less than once in 2^31.

Two neighbours of four bytes count as one element of eight, so that nothing has
to be widened: the second one's weight is 2^32 times the first one's.
"""
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
import os

import numpy as np

MODULUS = 2**64
# Elements that are widened to 64 bits at once: they stay in a core's cache.
_AT_ONCE = 2**14
_ROW = 2**11  # Elements of a row, at least, where the array has as many.
_TASK_BYTES = 2**24  # Of a part that one thread takes.
_MAX_THREADS = 16

Part = tuple[np.ndarray, Sequence[int]]  # Values, and where they begin.


def of_part(values: np.ndarray, starts: Sequence[int]) -> int:
  """The sum of a part of an array.

  Args:
    values: Elements of any type of 1, 2, 4 or 8 bytes.
    starts: Index of the part's first element in the whole, an axis each.

  Returns:
    A number below 2^64.
  """
  size, shape, starts = values.dtype.itemsize, [*values.shape], [*starts]
  bits = np.ascontiguousarray(values).reshape(-1).view(f'u{size}')
  in_pairs = size == 4 and bool(shape)
  if in_pairs and not (shape[-1] | starts[-1]) % 2:
    bits = bits.view(np.uint64)
    shape[-1], starts[-1], in_pairs = shape[-1] // 2, starts[-1] // 2, False
  weights = [_weights(axis, np.arange(start, start + length, dtype=np.uint64))
             for axis, (start, length) in enumerate(
                 zip(starts, shape, strict=True))]
  if in_pairs:
    places = np.arange(starts[-1], starts[-1] + shape[-1], dtype=np.uint64)
    weights[-1] = _weights(len(shape) - 1, places >> np.uint64(1)) << (
        np.uint64(32) * (places % np.uint64(2)))
  row = np.ones(1, np.uint64)
  while weights and row.size < _ROW:
    row = np.multiply.outer(weights.pop(), row).reshape(-1)
  rows = np.ones(1, np.uint64)
  for weight in weights:
    rows = np.multiply.outer(rows, weight).reshape(-1)
  if not bits.size:
    return 0
  table = bits.reshape(rows.size, row.size)
  step = max(_AT_ONCE // row.size, 1)
  total = 0
  for first in range(0, rows.size, step):
    block = table[first:first + step].astype(np.uint64, copy=False)
    total += int(rows[first:first + step] @ (block @ row))
  return total % MODULUS


def of_parts(parts: Iterable[Part]) -> list[int]:
  """The sums of several parts, by threads."""
  with futures.ThreadPoolExecutor(
      min(os.cpu_count() or 1, _MAX_THREADS)) as pool:
    jobs = [[pool.submit(of_part, *piece) for piece in _pieces(*part)]
            for part in parts]
    return [sum(job.result() for job in pieces) % MODULUS for pieces in jobs]


def _pieces(values: np.ndarray, starts: Sequence[int]) -> Iterator[Part]:
  """Cuts a part over its first axis."""
  count = min(-(-values.nbytes // _TASK_BYTES), len(values)) if (
      values.ndim) else 1
  if count <= 1:
    yield values, starts
    return
  step = -(-len(values) // count)
  for first in range(0, len(values), step):
    yield values[first:first + step], (starts[0] + first, *starts[1:])


def _weights(axis: int, places: np.ndarray) -> np.ndarray:
  """Odd numbers by index (uint64), of Steele's SplitMix64."""
  with np.errstate(over='ignore'):
    z = (places + np.uint64((axis + 1) * 0xD1342543DE82EF95 % MODULUS)
         ) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)
