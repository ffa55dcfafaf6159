"""Policies change what is computed again, never what comes out."""
import re

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
from jax import ad_checkpoint
import jax.numpy as jnp
import numpy as np

from walt_jax.models import remat


class Layer(nn.Module):
  """Two products with weights; the first result has a name."""

  @nn.compact
  def __call__(self, x):
    hidden = ad_checkpoint.checkpoint_name(
        nn.Dense(8, name='dense_in')(x), remat.MLP_HIDDEN)
    return nn.tanh(nn.Dense(4, name='dense_out')(nn.tanh(hidden)))


def gradient(policy):
  """The gradient of a loss of the layer, as a function of its parameters."""
  layer = remat.rematerialise(Layer, policy, prevent_cse=True)()
  x = jax.random.normal(jax.random.key(0), (3, 4))
  params = Layer().init(jax.random.key(1), x)
  return jax.grad(lambda p: jnp.square(layer.apply(p, x)).sum()), params


def products(policy) -> int:
  """Matrix products in the gradient's program, recomputed ones included."""
  grad, params = gradient(policy)
  return len(re.findall(r'dot_general', str(jax.make_jaxpr(grad)(params))))


class RematTest(parameterized.TestCase):

  @parameterized.parameters('matmuls', 'minimal', 'full')
  def test_gradients_are_equal(self, policy):
    plain, params = gradient('none')
    found, _ = gradient(policy)
    for a, b in zip(jax.tree.leaves(plain(params)),
                    jax.tree.leaves(found(params)), strict=True):
      np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)

  def test_only_what_is_not_kept_is_computed_again(self):
    kept = products('none')
    self.assertEqual(products('matmuls'), kept)
    # The named hidden layer is kept: its own product is not needed again.
    self.assertEqual(products('minimal'), kept + 1)
    self.assertEqual(products('full'), kept + 2)

  def test_none_wraps_nothing(self):
    self.assertIs(
        remat.rematerialise(Layer, 'none', prevent_cse=True), Layer)

  def test_an_unknown_policy_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'some.*minimal'):
      remat.rematerialise(Layer, 'some', prevent_cse=False)


if __name__ == '__main__':
  absltest.main()
