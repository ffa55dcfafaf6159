"""Mean and scatter of vectors, streamed in float64."""
import dataclasses
from typing import Literal

import numpy as np

Covariance = Literal['unbiased', 'biased']


@dataclasses.dataclass(frozen=True)
class Moments:
  """Mean and scatter of the vectors seen so far; cheap to merge.

  Attributes:
    count: Number of vectors.
    mean: float64 [D].
    scatter: float64 [D, D], sum of outer products of deviations from the mean;
      or its diagonal alone, [D].
  """
  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @classmethod
  def empty(cls, width: int, *, diagonal: bool = False) -> 'Moments':
    """Moments of no vectors at all."""
    return cls(0, np.zeros(width),
               np.zeros(width if diagonal else (width, width)))

  @classmethod
  def of(cls, vectors: np.ndarray, *, diagonal: bool = False) -> 'Moments':
    """Moments of vectors [N, D]."""
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2:
      raise ValueError(f'Features must be [N, D], got {vectors.shape}.')
    if not len(vectors):
      return cls.empty(vectors.shape[1], diagonal=diagonal)
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    return cls(len(vectors), mean,
               np.square(centred).sum(axis=0) if diagonal
               else centred.T @ centred)

  def merge(self, other: 'Moments') -> 'Moments':
    """Moments of both sets together (Chan, Golub and LeVeque, 1979)."""
    if self.scatter.shape != other.scatter.shape:
      raise ValueError(f'Widths differ: {self.scatter.shape} and '
                       f'{other.scatter.shape}.')
    count = self.count + other.count
    if not other.count:
      return self
    if not self.count:
      return other
    delta = other.mean - self.mean
    products = (np.square(delta) if self.scatter.ndim == 1
                else np.outer(delta, delta))
    return Moments(
        count, self.mean + delta * (other.count / count),
        self.scatter + other.scatter
        + products * (self.count * other.count / count))

  def add(self, vectors: np.ndarray) -> 'Moments':
    """Moments with more vectors [N, D]."""
    return self.merge(Moments.of(vectors, diagonal=self.scatter.ndim == 1))

  def covariance(self, kind: Covariance = 'unbiased') -> np.ndarray:
    """Covariance [D, D]; 'unbiased' divides by N - 1, 'biased' by N.

    One vector alone has covariance zero.
    """
    divisor = self.count if kind == 'biased' else self.count - 1
    return self.scatter / max(divisor, 1)
