"""Precision and recall against loops, and at their extremes."""
from absl.testing import absltest
import numpy as np

from walt_jax.metrics import precision_recall


def _covered_slow(points, centres, k):
  hits = 0
  for point in points:
    for i, centre in enumerate(centres):
      others = sorted(np.linalg.norm(centre - c)
                      for j, c in enumerate(centres) if j != i)
      if np.linalg.norm(point - centre) <= others[k - 1] + 1e-12:
        hits += 1
        break
  return hits / len(points)


class PrecisionRecallTest(absltest.TestCase):

  def test_equals_the_definition(self):
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) * 1.5
    for k in (1, 3):
      found = precision_recall.precision_recall(real, fake, num_neighbours=k)
      self.assertEqual(found, (_covered_slow(fake, real, k),
                               _covered_slow(real, fake, k)))

  def test_extremes(self):
    rng = np.random.default_rng(1)
    real = rng.normal(size=(50, 8)) + 1e3
    self.assertEqual(precision_recall.precision_recall(real, real), (1, 1))
    self.assertEqual(precision_recall.precision_recall(real, real + 99),
                     (0, 0))
    # One mode of two: what is generated is real, but not all is generated.
    both = np.concatenate([real, real + 99])
    self.assertEqual(precision_recall.precision_recall(both, real), (1, 0.5))

  def test_blocks_change_nothing(self):
    rng = np.random.default_rng(2)
    real, fake = rng.normal(size=(2, 60, 5))
    whole = precision_recall.precision_recall(real, fake)
    with absltest.mock.patch.object(precision_recall, '_BLOCK', 7):
      self.assertEqual(precision_recall.precision_recall(real, fake), whole)

  def test_sets_without_neighbours_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'neighbour number 3'):
      precision_recall.precision_recall(np.ones((3, 2)), np.ones((9, 2)))


if __name__ == '__main__':
  absltest.main()
