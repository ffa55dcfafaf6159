"""Frechet distance of Gaussians, from streamed float64 statistics."""
import dataclasses
import os
from typing import Literal

import numpy as np

Covariance = Literal['unbiased', 'biased']


@dataclasses.dataclass(frozen=True)
class Moments:
  """Mean and scatter of the features seen so far; cheap to merge.

  Attributes:
    count: N, number of features.
    mean: float64 [D].
    scatter: float64 [D, D], sum of outer products of deviations.
  """
  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @classmethod
  def empty(cls, width: int) -> 'Moments':
    return cls(0, np.zeros(width), np.zeros((width, width)))

  @classmethod
  def of(cls, features: np.ndarray) -> 'Moments':
    """Statistics of features [N, D]."""
    features = np.asarray(features, np.float64)
    if features.ndim != 2:
      raise ValueError(f'Features must be [N, D], got {features.shape}.')
    if not len(features):
      return cls.empty(features.shape[1])
    mean = features.mean(axis=0)
    centred = features - mean
    return cls(len(features), mean, centred.T @ centred)

  def merge(self, other: 'Moments') -> 'Moments':
    """Statistics of both sets together (Chan, Golub and LeVeque, 1979)."""
    if self.mean.shape != other.mean.shape:
      raise ValueError(f'Widths differ: {self.mean.shape} and '
                       f'{other.mean.shape}.')
    count = self.count + other.count
    if not other.count:
      return self
    if not self.count:
      return other
    delta = other.mean - self.mean
    share = other.count / count
    return Moments(
        count, self.mean + delta * share,
        self.scatter + other.scatter
        + np.outer(delta, delta) * (self.count * share))

  def add(self, features: np.ndarray) -> 'Moments':
    """Statistics with more features [N, D]."""
    return self.merge(Moments.of(features))

  def covariance(self, kind: Covariance = 'unbiased') -> np.ndarray:
    """Covariance [D, D]; 'unbiased' divides by N - 1, 'biased' by N.

    One feature alone has covariance zero.
    """
    divisor = self.count if kind == 'biased' else self.count - 1
    return self.scatter / max(divisor, 1)

  def save(self, path: str | os.PathLike):
    """Writes an `.npz` that `load` reads."""
    np.savez(path, count=self.count, mean=self.mean, scatter=self.scatter)

  @classmethod
  def load(cls, path: str | os.PathLike) -> 'Moments':
    with np.load(path, allow_pickle=False) as file:
      return cls(int(file['count']), file['mean'], file['scatter'])


def gaussian_distance(
    mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray,
    cov_b: np.ndarray) -> float:
  """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64.

  The trace of the root is the sum of the roots of the eigenvalues of
  R C_b R with R = C_a^(1/2): symmetric, so that no matrix square root of a
  nearly singular product is needed (Dowson and Landau, 1982).
  """
  values, vectors = np.linalg.eigh(np.asarray(cov_a, np.float64))
  root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
  inner = root @ np.asarray(cov_b, np.float64) @ root
  eigenvalues = np.linalg.eigvalsh((inner + inner.T) / 2)
  cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
  delta = np.asarray(mean_a, np.float64) - np.asarray(mean_b, np.float64)
  return float(delta @ delta + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def frechet_distance(
    a: Moments, b: Moments, *, covariance: Covariance = 'unbiased') -> float:
  """Frechet distance of two sets of features."""
  if min(a.count, b.count) < 1:
    raise ValueError(f'Empty set: {a.count} and {b.count} features.')
  return gaussian_distance(
      a.mean, a.covariance(covariance), b.mean, b.covariance(covariance))
