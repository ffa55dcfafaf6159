"""Peaks that can be counted by hand."""
from absl.testing import absltest
import jax
import jax.numpy as jnp

from walt_jax.parallel import liveness

_SIZE = 1024
_BYTES = 4 * _SIZE


def shapes(*sizes):
  return [jax.ShapeDtypeStruct((size,), jnp.float32) for size in sizes]


class LivenessTest(absltest.TestCase):

  def test_a_chain_needs_two_at_a_time(self):
    def chain(x):
      for _ in range(5):
        x = jnp.sin(x)
      return x
    self.assertEqual(
        liveness.peak_bytes(chain, *shapes(_SIZE)), 2 * _BYTES)

  def test_what_is_used_later_stays(self):
    def wide(x):
      kept = [jnp.sin(x), jnp.cos(x), jnp.tan(x)]
      return kept[0] * kept[1] * kept[2]
    # Three kept, then the first product beside them.
    self.assertEqual(liveness.peak_bytes(wide, *shapes(_SIZE)), 4 * _BYTES)

  def test_views_cost_nothing_and_keep_their_source(self):
    def view(x):
      y = jnp.sin(x)
      z = y.reshape(2, -1)
      return jnp.cos(z).sum() + jnp.tan(z).sum()
    self.assertBetween(
        liveness.peak_bytes(view, *shapes(_SIZE)), 2 * _BYTES,
        2 * _BYTES + 64)

  def test_a_loop_counts_its_stacked_results_and_one_body(self):
    def loop(x):
      return jax.lax.scan(
          lambda c, _: (jnp.sin(c), c), x, length=10)[1]
    # Ten stacked, and the carry.
    self.assertBetween(
        liveness.peak_bytes(loop, *shapes(_SIZE)), 11 * _BYTES, 13 * _BYTES)

  def test_rematerialisation_lowers_the_peak(self):
    def loss(remat):
      layer = lambda x: jnp.sin(jnp.cos(jnp.sin(jnp.cos(x))))
      if remat:
        layer = jax.checkpoint(layer)
      def total(x):
        return jax.lax.scan(
            lambda c, _: (layer(c), None), x, length=20)[0].sum()
      return jax.grad(total)
    kept = liveness.peak_bytes(loss(False), *shapes(_SIZE))
    recomputed = liveness.peak_bytes(loss(True), *shapes(_SIZE))
    self.assertLess(recomputed, 0.5 * kept)
    self.assertGreater(recomputed, 20 * _BYTES)


if __name__ == '__main__':
  absltest.main()
