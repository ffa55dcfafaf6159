"""Moments against NumPy; merging against whole."""
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.core import moments as moments_lib


def _features(seed: int, count: int, width: int) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + 3


class MomentsTest(parameterized.TestCase):

  @parameterized.parameters('unbiased', 'biased')
  def test_statistics_are_numpys(self, kind):
    x = _features(2, 50, 7)
    moments = moments_lib.Moments.of(x)
    np.testing.assert_allclose(moments.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        moments.covariance(kind),
        np.cov(x, rowvar=False, bias=kind == 'biased'), rtol=1e-10)

  @parameterized.parameters(1, 7, 64, 100)
  def test_merged_equals_whole(self, size):
    x = _features(3, 100, 6) + 1e4
    whole, streamed = moments_lib.Moments.of(x), moments_lib.Moments.empty(6)
    for start in range(0, 100, size):
      streamed = streamed.add(x[start:start + size])
    self.assertEqual(streamed.count, 100)
    np.testing.assert_allclose(streamed.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(streamed.scatter, whole.scatter, rtol=1e-7)

  @parameterized.parameters(1, 7, 100)
  def test_the_diagonal_alone(self, size):
    x = _features(4, 100, 6)
    whole = moments_lib.Moments.of(x)
    streamed = moments_lib.Moments.empty(6, diagonal=True)
    for start in range(0, 100, size):
      streamed = streamed.add(x[start:start + size])
    np.testing.assert_allclose(
        streamed.scatter, np.diag(whole.scatter), rtol=1e-9)

  def test_moments_of_other_shapes_do_not_merge(self):
    empty = moments_lib.Moments.empty(3)
    for other in (moments_lib.Moments.empty(4),
                  moments_lib.Moments.empty(3, diagonal=True)):
      with self.assertRaisesRegex(ValueError, 'Widths'):
        empty.merge(other)


if __name__ == '__main__':
  absltest.main()
