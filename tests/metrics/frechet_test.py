"""Frechet distance against closed forms and SciPy."""
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import scipy.linalg

from walt_jax.core import moments as moments_lib
from walt_jax.metrics import frechet


def _features(seed: int, count: int, width: int) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + 3


class FrechetTest(parameterized.TestCase):

  def test_commuting_gaussians_have_a_closed_form(self):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    a, b = rng.uniform(0, 4, (2, 40))
    mean_a, mean_b = rng.normal(size=(2, 40))
    expected = (np.square(mean_a - mean_b).sum()
                + np.square(np.sqrt(a) - np.sqrt(b)).sum())
    found = frechet.gaussian_distance(
        mean_a, (basis * a) @ basis.T, mean_b, (basis * b) @ basis.T)
    self.assertAlmostEqual(found, expected, delta=1e-8)

  def test_equals_scipy_where_that_is_stable(self):
    a = moments_lib.Moments.of(_features(0, 300, 20))
    b = moments_lib.Moments.of(_features(1, 300, 20))
    root = scipy.linalg.sqrtm(a.covariance() @ b.covariance()).real
    expected = (np.square(a.mean - b.mean).sum()
                + np.trace(a.covariance() + b.covariance() - 2 * root))
    for method in ('eigh', 'sqrtm'):
      found = frechet.frechet_distance(a, b, root=method)
      self.assertAlmostEqual(found / expected, 1.0, delta=1e-8)

  def test_singular_covariances_are_exact_by_eigenvalues(self):
    """Fewer features than dimensions: rank 1 against rank 1."""
    u, v = np.zeros((2, 6))
    u[0], v[1] = 3.0, 2.0
    mean = np.zeros(6)
    found = frechet.gaussian_distance(
        mean, np.outer(u, u), mean, np.outer(v, v))
    self.assertAlmostEqual(found, 9.0 + 4.0, delta=1e-8)
    self.assertAlmostEqual(frechet.gaussian_distance(
        mean, np.outer(u, u), mean, np.outer(u + v, u + v)),
        9.0 + 13.0 - 2 * 9.0, delta=1e-8)
    # SciPy's root of such a product is off by its offset, and no more.
    self.assertAlmostEqual(frechet.gaussian_distance(
        mean, np.outer(u, u), mean, np.outer(v, v), root='sqrtm'), 13.0,
        delta=0.1)

  @parameterized.parameters(5, 500)
  def test_a_set_against_itself_is_zero(self, count):
    moments = moments_lib.Moments.of(_features(4, count, 64))
    self.assertAlmostEqual(
        frechet.frechet_distance(moments, moments)
        / np.trace(moments.covariance()), 0.0, delta=1e-6)

  def test_an_empty_set_is_refused(self):
    empty = moments_lib.Moments.empty(3)
    with self.assertRaisesRegex(ValueError, 'Empty'):
      frechet.frechet_distance(empty, moments_lib.Moments.of(np.ones((2, 3))))


if __name__ == '__main__':
  absltest.main()
