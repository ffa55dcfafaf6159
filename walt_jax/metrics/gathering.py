"""Statistics and features of all processes of a run, joined exactly."""
import numpy as np

from walt_jax.metrics import frechet
from walt_jax.parallel import multihost


def merge(moments: frechet.Moments) -> frechet.Moments:
  """Statistics of all processes' features."""
  counts = multihost.gather(np.array([moments.count], np.int64))[:, 0]
  means = multihost.gather(moments.mean)
  scatters = multihost.gather(moments.scatter)
  merged = frechet.Moments.empty(len(moments.mean))
  for count, mean, scatter in zip(counts, means, scatters, strict=True):
    merged = merged.merge(frechet.Moments(int(count), mean, scatter))
  return merged


def interleave(rows: np.ndarray, chunk: int = 1) -> np.ndarray:
  """Joins rows [n, D] of which process p of P holds every P-th chunk."""
  counts = multihost.gather(np.array([len(rows)], np.int64))[:, 0]
  longest = int(counts.max())
  padded = np.zeros((longest, *rows.shape[1:]), rows.dtype)
  padded[:len(rows)] = rows
  parts = multihost.gather(padded)
  return np.concatenate([
      parts[p, i:min(i + chunk, counts[p])]
      for i in range(0, longest, chunk) for p in range(len(counts))])
