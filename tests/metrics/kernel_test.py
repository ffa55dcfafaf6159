"""Kernel distance against loops, and what an unbiased estimate promises."""
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.metrics import kernel


def _slow(a: np.ndarray, b: np.ndarray) -> float:
  """The definition, pair by pair."""
  k = lambda x, y: (float(x @ y) / len(x) + 1) ** 3
  n, m = len(a), len(b)
  within = lambda s: sum(k(s[i], s[j]) for i in range(len(s))
                         for j in range(len(s)) if i != j)
  return (within(a) / (n * (n - 1)) + within(b) / (m * (m - 1))
          - 2 * sum(k(x, y) for x in a for y in b) / (n * m))


class KernelTest(parameterized.TestCase):

  @parameterized.parameters((7, 5), (2, 9))
  def test_equals_the_definition(self, n, m):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(n, 4)), rng.normal(size=(m, 4)) + 1
    self.assertAlmostEqual(kernel.squared_discrepancy(a, b), _slow(a, b),
                           places=10)

  def test_blocks_change_nothing(self):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 50, 3))
    whole = kernel.squared_discrepancy(a, b)
    with absltest.mock.patch.object(kernel, '_BLOCK', 7):
      self.assertAlmostEqual(kernel.squared_discrepancy(a, b), whole)

  def test_unbiased_where_a_frechet_distance_is_not(self):
    """Small sets of one distribution have mean distance zero."""
    rng = np.random.default_rng(2)
    values = [kernel.squared_discrepancy(*rng.normal(size=(2, 10, 6)))
              for _ in range(400)]
    self.assertLess(abs(np.mean(values)), 3 * np.std(values) / 20)

  def test_subsets(self):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(200, 5)), rng.normal(size=(150, 5)) + 0.5
    found = kernel.kernel_distance(a, b, subset_size=60, num_subsets=50)
    again = kernel.kernel_distance(a, b, subset_size=60, num_subsets=50)
    self.assertEqual(found, again)
    whole = kernel.kernel_distance(a, b)
    self.assertEqual((whole.num_subsets, whole.std), (1, 0.0))
    self.assertLess(abs(found.value - whole.value), found.std)
    with self.assertRaisesRegex(ValueError, 'Subsets of 151'):
      kernel.kernel_distance(a, b, subset_size=151)
    with self.assertRaisesRegex(ValueError, 'two features'):
      kernel.squared_discrepancy(a[:1], b)


if __name__ == '__main__':
  absltest.main()
