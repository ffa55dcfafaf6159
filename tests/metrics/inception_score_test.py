"""The Inception Score where it is known, and what splits do to it."""
from absl.testing import absltest
import numpy as np
import scipy.special

from walt_jax.metrics import inception_score


class InceptionScoreTest(absltest.TestCase):

  def test_certain_and_even_classes_give_their_number(self):
    logits = 1e4 * np.eye(7)[np.arange(70) % 7]
    for splits in (1, 5, 10):
      found = inception_score.inception_score(logits, num_splits=splits)
      self.assertAlmostEqual(found.value, 7.0, places=9)
      self.assertEqual((found.num_splits, found.split_size),
                       (splits, 70 // splits))

  def test_equal_samples_give_one(self):
    logits = np.tile(np.random.default_rng(0).normal(size=9), (20, 1))
    found = inception_score.inception_score(logits, num_splits=4)
    self.assertAlmostEqual(found.value, 1.0, places=12)
    self.assertAlmostEqual(found.std, 0.0, places=12)

  def test_equals_the_formula(self):
    logits = np.random.default_rng(1).normal(size=(30, 6)) * 2
    p = scipy.special.softmax(logits, axis=1)
    scores = [np.exp(np.mean(np.sum(
        part * (np.log(part) - np.log(part.mean(0))), axis=1)))
              for part in (p[:11], p[11:22], p[22:])]
    found = inception_score.inception_score(logits, split_size=11)
    self.assertAlmostEqual(found.value, np.mean(scores), places=12)
    self.assertAlmostEqual(found.std, np.std(scores), places=12)
    self.assertEqual(found.split_size, 11)

  def test_it_grows_with_the_size_of_a_split(self):
    logits = np.random.default_rng(2).normal(size=(400, 50)) * 3
    one, ten = (inception_score.inception_score(logits, num_splits=n).value
                for n in (1, 10))
    self.assertGreater(one, ten)

  def test_splits_must_be_stated_and_filled(self):
    for kwargs in ({}, dict(num_splits=2, split_size=3), dict(num_splits=9)):
      with self.assertRaises(ValueError):
        inception_score.inception_score(np.zeros((8, 3)), **kwargs)


if __name__ == '__main__':
  absltest.main()
