"""Exact sums over the processes of a run; every process gets the result."""
import jax
from jax.experimental import multihost_utils
import numpy as np

from walt_jax.metrics import frechet


def gather(value: np.ndarray) -> np.ndarray:
  """All processes' arrays of one shape and type, stacked: [P, ..].

  Bytes travel: JAX would round float64 to float32.
  """
  value = np.asarray(value)
  raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
  found = np.asarray(multihost_utils.process_allgather(raw))
  return found.view(value.dtype).reshape(jax.process_count(), *value.shape)


def merge(moments: frechet.Moments) -> frechet.Moments:
  """Statistics of all processes' features."""
  counts = gather(np.array([moments.count], np.int64))[:, 0]
  means, scatters = gather(moments.mean), gather(moments.scatter)
  merged = frechet.Moments.empty(len(moments.mean))
  for count, mean, scatter in zip(counts, means, scatters, strict=True):
    merged = merged.merge(frechet.Moments(int(count), mean, scatter))
  return merged


def interleave(rows: np.ndarray, chunk: int = 1) -> np.ndarray:
  """Joins rows [n, D] of which process p of P holds every P-th chunk."""
  counts = gather(np.array([len(rows)], np.int64))[:, 0]
  longest = int(counts.max())
  padded = np.zeros((longest, *rows.shape[1:]), rows.dtype)
  padded[:len(rows)] = rows
  parts = gather(padded)
  return np.concatenate([
      parts[p, i:min(i + chunk, counts[p])]
      for i in range(0, longest, chunk) for p in range(len(counts))])


def total(value: int) -> int:
  """Sum of non-negative numbers below 2^128."""
  words = np.frombuffer(value.to_bytes(16, 'little'), np.uint8)
  return sum(int.from_bytes(row.tobytes(), 'little') for row in gather(words))


def largest(value: int) -> int:
  """Largest of the processes' numbers."""
  return int(gather(np.array([value], np.int64)).max())
