"""Kernel distance of two sets of features: KID of images, KVD of videos.

The squared maximum mean discrepancy under a polynomial kernel (Binkowski et
al., arXiv 1801.01401; for videos Unterthiner et al., arXiv 1812.01717). Its
estimate is unbiased at any number of samples, so that small sets may be
compared, and it may be negative.
"""
import dataclasses

import numpy as np

DEGREE = 3
_BLOCK = 2048  # Rows of a kernel matrix held at once.


@dataclasses.dataclass(frozen=True)
class KernelDistance:
  """Attributes:

    value: Mean over the subsets of the unbiased squared discrepancy.
    std: Standard deviation over the subsets; 0 of one.
    subset_size: Features of each set in a subset.
    num_subsets: Number of subsets drawn; 1 is the two whole sets.
  """
  value: float
  std: float
  subset_size: int
  num_subsets: int


def squared_discrepancy(a: np.ndarray, b: np.ndarray) -> float:
  """Unbiased estimate from all pairs of features [N, D] and [M, D].

  The kernel is (x . y / D + 1)^3.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  n, m = len(a), len(b)
  if min(n, m) < 2:
    raise ValueError(f'KVD needs two features of each set, got {n} and {m}.')
  return (_pair_sum(a) / (n * (n - 1)) + _pair_sum(b) / (m * (m - 1))
          - 2 * _kernel_sum(a, b) / (n * m))


def kernel_distance(
    a: np.ndarray, b: np.ndarray, *, subset_size: int | None = None,
    num_subsets: int = 100, seed: int = 0) -> KernelDistance:
  """Squared discrepancy of features [N, D] and [M, D].

  Args:
    a: Features of one set.
    b: Features of the other.
    subset_size: Drawn of each set for every subset, without replacement, as
      KID is reported (1,000); None takes all pairs of the whole sets.
    num_subsets: Number of subsets of that size.
    seed: Random seed of the subsets.
  """
  if subset_size is None:
    return KernelDistance(
        squared_discrepancy(a, b), 0.0, min(len(a), len(b)), 1)
  if subset_size > min(len(a), len(b)):
    raise ValueError(f'Subsets of {subset_size} from sets of {len(a)} and '
                     f'{len(b)} features.')
  rng = np.random.default_rng(seed)
  values = [
      squared_discrepancy(
          a[rng.choice(len(a), subset_size, replace=False)],
          b[rng.choice(len(b), subset_size, replace=False)])
      for _ in range(num_subsets)]
  return KernelDistance(float(np.mean(values)), float(np.std(values)),
                        subset_size, num_subsets)


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return (a @ b.T / a.shape[1] + 1.0) ** DEGREE


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
  return float(sum(_kernel(a[i:i + _BLOCK], b).sum()
                   for i in range(0, len(a), _BLOCK)))


def _pair_sum(a: np.ndarray) -> float:
  """Sum over all pairs of unlike features."""
  diagonal = (np.square(a).sum(axis=1) / a.shape[1] + 1.0) ** DEGREE
  return _kernel_sum(a, a) - float(diagonal.sum())
