"""Bootstrap intervals cover what they should."""
from absl.testing import absltest
import numpy as np

from walt_jax.core import moments as moments_lib
from walt_jax.metrics import bootstrap
from walt_jax.metrics import frechet


def _gap(a: np.ndarray, b: np.ndarray) -> float:
  return float(b.mean() - a.mean())


def _frechet(a: np.ndarray, b: np.ndarray) -> float:
  return frechet.frechet_distance(moments_lib.Moments.of(a),
                                  moments_lib.Moments.of(b))


class BootstrapTest(absltest.TestCase):

  def test_about_95_of_100_intervals_hold_the_truth(self):
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
      a, b = rng.normal(size=(60, 1)), rng.normal(size=(60, 1)) + 0.3
      found = bootstrap.interval(_gap, a, b, resamples=60, seed=trial)
      hits += found.low <= 0.3 <= found.high
    self.assertBetween(hits, 178, 200)

  def test_the_score_lies_inside_though_resamples_are_biased(self):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 80, 10))
    found = bootstrap.interval(_frechet, a, b, resamples=30)
    self.assertBetween(_frechet(a, b), found.low, found.high)
    self.assertEqual(found, bootstrap.interval(_frechet, a, b, resamples=30))
    with self.assertRaisesRegex(ValueError, 'spread'):
      bootstrap.interval(_frechet, a, b, resamples=1)


if __name__ == '__main__':
  absltest.main()
