"""Tests of the latent statistics."""
from absl.testing import absltest
import jax
import numpy as np

from walt_jax.core import moments as moments_lib
from walt_jax.core import types
from walt_jax.tokenizer import statistics as stats


def _posteriors(with_variance=False):
  rng = np.random.default_rng(0)
  scale, shift = np.array([0.1, 1.0, 30.0]), np.array([100.0, -1.0, 0.0])
  sizes = (1, 4, 2)
  means = [rng.normal(size=(b, 5, 2, 3, 3)) * scale + shift for b in sizes]
  logvars = [rng.normal(size=m.shape) if with_variance else None
             for m in means]
  return [types.Posterior(m.astype(np.float32), v)
          for m, v in zip(means, logvars, strict=True)]


class LatentStatisticsTest(absltest.TestCase):

  def test_equal_a_two_pass_reference_in_any_order(self):
    posteriors = _posteriors()
    flat = np.concatenate([np.asarray(p.mean, np.float64).reshape(-1, 3)
                           for p in posteriors])
    mean = flat.mean(0)
    std = np.sqrt(np.square(flat - mean).mean(0))
    parts = [stats.moments_of(p) for p in posteriors]
    empty = moments_lib.Moments.empty(3, diagonal=True)
    orders = (
        parts[0].merge(parts[1]).merge(parts[2]),
        parts[2].merge(parts[1].merge(parts[0])),
        empty.merge(parts[1].merge(empty).merge(parts[0].merge(parts[2]))))
    for moments in orders:
      statistics = stats.finalise(moments)
      np.testing.assert_allclose(statistics.mean, mean, rtol=1e-6)
      np.testing.assert_allclose(statistics.std, std, rtol=1e-6)

  def test_variance_of_samples_is_counted(self):
    posterior = _posteriors(with_variance=True)[1]
    statistics = stats.finalise(stats.moments_of(posterior))
    samples = np.concatenate([
        np.asarray(stats.sample_posterior(posterior, key)).reshape(-1, 3)
        for key in jax.random.split(jax.random.key(0), 200)])
    np.testing.assert_allclose(statistics.std, samples.std(0), rtol=0.02)

  def test_normalise_gives_unit_variance_and_is_undone(self):
    posterior = _posteriors()[1]
    statistics = stats.finalise(stats.moments_of(posterior))
    normal = stats.normalise(posterior.mean, statistics)
    np.testing.assert_allclose(normal.mean((0, 1, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(normal.std((0, 1, 2, 3)), 1, atol=1e-3)
    np.testing.assert_allclose(stats.denormalise(normal, statistics),
                               posterior.mean, rtol=1e-5, atol=1e-4)

  def test_collapse_and_emptiness_are_errors(self):
    with self.assertRaisesRegex(ValueError, 'empty'):
      stats.finalise(moments_lib.Moments.empty(2, diagonal=True))
    constant = types.Posterior(np.stack([np.arange(6.0), np.zeros(6)], -1))
    with self.assertRaisesRegex(ValueError, r'channels \[1\]'):
      stats.finalise(stats.moments_of(constant))
    broken = types.Posterior(np.full((4, 2), np.nan))
    with self.assertRaisesRegex(ValueError, r'\[0, 1\]'):
      stats.finalise(stats.moments_of(broken))

  def test_a_plain_posterior_needs_no_key(self):
    posterior = _posteriors()[0]
    self.assertIs(stats.sample_posterior(posterior, jax.random.key(0)),
                  posterior.mean)


if __name__ == '__main__':
  absltest.main()
