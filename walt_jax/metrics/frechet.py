"""Frechet distance of Gaussians, in float64."""
from collections.abc import Callable
from typing import Literal

import numpy as np

from walt_jax.core import moments as moments_lib

# How the trace of the root of C_a C_b is found. 'eigh': symmetric eigenvalues,
# exact for singular covariances too. 'sqrtm': SciPy's Schur method on the
# product, as the original FID and StyleGAN-V scripts do.
Root = Literal['eigh', 'sqrtm']

_SQRTM_OFFSET = 1e-6  # Added by those scripts where the root is not finite.


def gaussian_distance(
    mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray,
    cov_b: np.ndarray, *, root: Root = 'eigh') -> float:
  """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64.

  Args:
    mean_a: [D].
    cov_a: [D, D].
    mean_b: [D].
    cov_b: [D, D].
    root: Way to find the trace of the root. Both agree to rounding where
      the covariances are regular; 'sqrtm' loses digits where they are not.
  """
  cov_a, cov_b = np.asarray(cov_a, np.float64), np.asarray(cov_b, np.float64)
  cross = _TRACES[root](cov_a, cov_b)
  delta = np.asarray(mean_a, np.float64) - np.asarray(mean_b, np.float64)
  return float(delta @ delta + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def frechet_distance(
    a: moments_lib.Moments, b: moments_lib.Moments, *,
    covariance: moments_lib.Covariance = 'unbiased',
    root: Root = 'eigh') -> float:
  """Frechet distance of two sets of features."""
  if min(a.count, b.count) < 1:
    raise ValueError(f'Empty set: {a.count} and {b.count} features.')
  return gaussian_distance(
      a.mean, a.covariance(covariance), b.mean, b.covariance(covariance),
      root=root)


def _trace_by_eigenvalues(cov_a: np.ndarray, cov_b: np.ndarray) -> float:
  """Sum of the roots of the eigenvalues of R C_b R, R = C_a^(1/2).

  Symmetric, so that no matrix square root of a nearly singular product is
  needed (Dowson and Landau, 1982).
  """
  values, vectors = np.linalg.eigh(cov_a)
  half = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
  inner = half @ cov_b @ half
  eigenvalues = np.linalg.eigvalsh((inner + inner.T) / 2)
  return float(np.sqrt(np.clip(eigenvalues, 0, None)).sum())


def _trace_by_schur(cov_a: np.ndarray, cov_b: np.ndarray) -> float:
  """Real part of the trace of SciPy's root of the product."""
  import scipy.linalg  # Not needed otherwise, and slow to import.
  found = scipy.linalg.sqrtm(cov_a @ cov_b)
  if not np.isfinite(found).all():
    offset = np.eye(len(cov_a)) * _SQRTM_OFFSET
    found = scipy.linalg.sqrtm((cov_a + offset) @ (cov_b + offset))
  return float(np.trace(found).real)


_TRACES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    'eigh': _trace_by_eigenvalues, 'sqrtm': _trace_by_schur}
