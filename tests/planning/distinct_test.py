"""Products that a trace has twice."""
from absl.testing import absltest
import jax
import jax.numpy as jnp

from walt_jax.planning import counting
from walt_jax.planning import distinct

_X = jax.ShapeDtypeStruct((8, 8), jnp.float32)
_PRODUCT = 2 * 8**3


def _counts(function):
  traced = jax.jit(function).trace(_X, _X)
  return (distinct.distinct_flops(traced) // _PRODUCT,
          counting.flops_of(traced) // _PRODUCT)


class DistinctTest(absltest.TestCase):

  def test_equal_products_of_equal_values_are_one(self):
    square = jax.jit(lambda x: jnp.tanh(x) @ x)
    self.assertEqual(_counts(lambda x, y: square(x) + square(x)), (1, 2))
    self.assertEqual(_counts(lambda x, y: square(x) + square(y)), (2, 2))
    self.assertEqual(_counts(lambda x, y: x @ y + (y @ x)), (2, 2))
    # As XLA does it.
    text = jax.jit(lambda x, y: square(x) + square(x)).lower(
        _X, _X).compile().as_text()
    self.assertEqual(text.count(' dot('), 1)

  def test_what_no_result_depends_on_counts_nothing(self):
    def function(x, y):
      del y
      scanned, _ = jax.lax.scan(
          lambda carry, _: ((carry[0] @ x, carry[1] + 1), None), (x, x), None,
          3)
      return scanned[1] @ x

    self.assertEqual(_counts(function), (1, 1))

  def test_loops_and_recomputation_count(self):
    def function(x, y):
      layer = jax.checkpoint(lambda x: jnp.tanh(x @ y) @ y)
      return jax.grad(lambda x: jnp.sum(jax.lax.scan(
          lambda x, _: (layer(x), None), x, None, 3)[0]))(x)

    # Forward 2, again 1 or 2, backward 2, three times.
    least, everything = _counts(function)
    self.assertEqual(least, everything)
    self.assertGreaterEqual(least, 3 * 5)


if __name__ == '__main__':
  absltest.main()
