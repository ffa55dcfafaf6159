"""Tokens as rows of one matrix: the same layer, the same gradients."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models import attention
from walt_jax.models import blocks
from walt_jax.models import projections


def modules(flat):
  """The layers that have a flat form, and the shape of one token."""
  return {
      'to_heads': (attention.ToHeads(2, 3, jnp.float32, flat=flat), (5,)),
      'from_heads': (attention.FromHeads(5, jnp.float32, flat=flat), (2, 3)),
      'gelu': (blocks.Mlp(9, 'gelu', 'plain', jnp.float32, flat), (4,)),
      'relu2': (blocks.Mlp(3, 'relu2', 'plain', jnp.float32, flat), (4,))}


class ProjectionsTest(parameterized.TestCase):

  @parameterized.parameters(*modules(False))
  def test_flat_form_is_the_plain_one(self, name):
    (plain, token), (flat, _) = modules(False)[name], modules(True)[name]
    rng = np.random.default_rng(0)
    draw = lambda p: rng.normal(size=p.shape).astype(np.float32)
    x = jnp.asarray(rng.normal(size=(2, 3, 2, 4, *token)), jnp.float32)
    params = plain.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, params,
                 flat.init(jax.random.key(0), x))
    params = jax.tree.map(draw, params)

    @jax.jit
    def both(params, x):
      return [(module.apply(params, x), jax.grad(
          lambda p, x, m=module: jnp.sin(
              jax.tree.leaves(m.apply(p, x))[0]).sum(),
          argnums=(0, 1))(params, x)) for module in (plain, flat)]

    expected, found = both(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        a, b, rtol=0, atol=1e-5 * np.abs(b).max()), found, expected)

  @parameterized.parameters((3, 5), (5, 3))
  def test_the_narrower_side_is_transposed(self, width, features):
    pull = jax.vjp(lambda w: projections.linear(
        jnp.ones((8, width)), w, jnp.ones(features)),
                   jnp.ones((width, features)))[1]
    self.assertIn('f32[3,5] = dot_general',
                  str(jax.make_jaxpr(pull)(jnp.ones((8, features)))))


if __name__ == '__main__':
  absltest.main()
