"""Policies change what is computed again, never what comes out."""
import functools
import re

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
from jax import ad_checkpoint
import jax.numpy as jnp
import numpy as np

from walt_jax.models import remat


@jax.custom_vjp
def attention(x):
  """A stand-in for a fused kernel: one logarithm, in the forward pass."""
  return attention_forward(x)[0]


def attention_forward(x):
  log_sum = ad_checkpoint.checkpoint_name(
      jnp.log(jnp.exp(x).sum(-1)), remat.ATTENTION_LOG_SUM)
  context = ad_checkpoint.checkpoint_name(
      nn.tanh(x) * log_sum[:, None], remat.ATTENTION_CONTEXT)
  return context, (x, context, log_sum)


def attention_backward(kept, cotangent):
  x, context, log_sum = kept
  slope = log_sum[:, None] - context * nn.tanh(x)
  share = nn.softmax(x) * (cotangent * nn.tanh(x)).sum(-1, keepdims=True)
  return (slope * cotangent + share,)


attention.defvjp(attention_forward, attention_backward)


class Layer(nn.Module):
  """A projection, attention and its projection; an MLP and its gate."""

  @nn.compact
  def __call__(self, x):
    context = attention(nn.Dense(4, name='value')(x))
    x += nn.Dense(4, name='out')(context)
    hidden = ad_checkpoint.checkpoint_name(
        nn.Dense(8, name='mlp_in')(x), remat.MLP_HIDDEN)
    y = ad_checkpoint.checkpoint_name(
        nn.Dense(4, name='mlp_out')(nn.tanh(hidden)), remat.MLP_OUTPUT)
    return x + self.param('gate', nn.initializers.ones, (4,)) * y


def gradient(policy):
  """The gradient of a loss of the layer, as a function of its parameters."""
  layer = remat.rematerialise(Layer, policy, prevent_cse=True)()
  x = jax.random.normal(jax.random.key(0), (3, 4))
  params = Layer().init(jax.random.key(1), x)
  return jax.grad(lambda p: jnp.square(layer.apply(p, x)).sum()), params


def count(policy, operation: str) -> int:
  """Operations in the gradient's program, recomputed ones included."""
  grad, params = gradient(policy)
  program = str(jax.make_jaxpr(grad)(params))
  return len(re.findall(rf'\b{operation}\b', program))


class RematTest(parameterized.TestCase):

  @parameterized.parameters('matmuls', 'minimal', 'full')
  def test_gradients_are_equal(self, policy):
    plain, params = gradient('none')
    found, _ = gradient(policy)
    for a, b in zip(jax.tree.leaves(plain(params)),
                    jax.tree.leaves(found(params)), strict=True):
      np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)

  def test_only_what_is_not_kept_is_computed_again(self):
    products = functools.partial(count, operation='dot_general')
    kept = products('none')
    self.assertEqual(products('matmuls'), kept)
    # The projections before and after attention; nothing of the MLP.
    self.assertEqual(products('minimal'), kept + 2)
    self.assertEqual(products('full'), kept + 4)

  @parameterized.parameters('matmuls', 'minimal', 'offload')
  def test_fused_attention_does_not_run_again(self, policy):
    self.assertEqual(count('full', 'log'), 2)
    self.assertEqual(count(policy, 'log'), 1)

  def test_none_wraps_nothing(self):
    self.assertIs(
        remat.rematerialise(Layer, 'none', prevent_cse=True), Layer)

  def test_an_unknown_policy_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'some.*minimal'):
      remat.rematerialise(Layer, 'some', prevent_cse=False)


if __name__ == '__main__':
  absltest.main()
