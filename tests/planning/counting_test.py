"""Counts of parameters and of products, against arithmetic by hand."""
from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
from jax import lax
from jax.experimental import pallas as pl
import jax.numpy as jnp

from walt_jax.planning import counting


def struct(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


class ParametersTest(absltest.TestCase):

  TREE = {'encoder': {'a': {'kernel': struct(3, 4), 'bias': struct(4)}},
          'head': {'kernel': struct(4, 2)}}

  def test_sum_and_parts(self):
    self.assertEqual(counting.parameters(self.TREE), 12 + 4 + 8)
    self.assertEqual(
        counting.parameters_by_part(self.TREE, (
            ('biases', r'/bias$'), ('encoder', '^encoder/'),
            ('absent', '^decoder/'), ('head', '^head/'))),
        dict(biases=4, encoder=12, head=8))

  def test_a_leaf_of_no_part_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'head/kernel'):
      counting.parameters_by_part(self.TREE, (('encoder', '^encoder/'),))


class ProductFlopsTest(parameterized.TestCase):

  def test_convolutions_are_seen_in_loops(self):
    convolve = lambda x: lax.conv(x, jnp.ones((2, 2, 3, 3)), (1, 1), 'SAME')
    loop = lambda x: lax.map(convolve, x)
    x = struct(4, 1, 2, 5, 5)
    self.assertTrue(counting.has_convolutions(jax.jit(loop).trace(x)))
    self.assertFalse(counting.has_convolutions(
        jax.jit(lambda x: x @ x).trace(x)))

  def test_matrix_products(self):
    self.assertEqual(counting.product_flops(
        jnp.matmul, struct(3, 5), struct(5, 7)), 2 * 3 * 5 * 7)
    # A batch of attention logits: 4 x 6 x [8, 16] x [16, 9].
    self.assertEqual(counting.product_flops(
        lambda q, k: jnp.einsum('blkd,bmkd->bklm', q, k),
        struct(4, 8, 6, 16), struct(4, 9, 6, 16)), 2 * 4 * 6 * 8 * 9 * 16)

  @parameterized.parameters((1, 1), (2, 1), (1, 4))
  def test_convolutions(self, stride, groups):
    module = nn.Conv(12, (3, 3), (stride, stride), feature_group_count=groups)
    x = struct(2, 16, 8, 4)
    params = jax.eval_shape(module.init, jax.random.key(0), x)
    outputs = 2 * 16 * 8 // stride ** 2 * 12
    self.assertEqual(counting.product_flops(module.apply, params, x),
                     2 * outputs * 9 * 4 // groups)

  def test_a_loop_counts_as_often_as_it_runs(self):
    weight = jnp.ones((4, 4))
    def repeat(x):
      return lax.scan(lambda x, _: (jax.jit(jnp.matmul)(x, weight), None), x,
                      length=7)[0]
    self.assertEqual(
        counting.product_flops(repeat, struct(3, 4)), 7 * 2 * 3 * 4 * 4)
    with self.assertRaisesRegex(ValueError, 'while'):
      counting.product_flops(lambda x: lax.while_loop(
          lambda x: x.sum() > 0, lambda x: x @ weight, x), struct(3, 4))

  def test_the_dearer_branch_counts(self):
    choose = lambda x: lax.cond(x[0, 0] > 0, lambda: x @ x, lambda: x)
    self.assertEqual(counting.product_flops(choose, struct(4, 4)), 128)

  def test_gradients_take_twice_the_forward_pass(self):
    loss = lambda w, x: jnp.tanh(jnp.tanh(x @ w[0]) @ w[1]).sum()
    weights = (struct(4, 8), struct(8, 5))
    forward = counting.product_flops(loss, weights, struct(3, 4))
    both = counting.product_flops(
        jax.value_and_grad(loss, argnums=(0, 1)), weights, struct(3, 4))
    self.assertEqual(both, 3 * forward)

  def test_what_no_result_depends_on_counts_in_no_program(self):
    """As the kernel of a rematerialised layer whose results were kept."""
    def layers(x):
      def layer(x, _):
        used, unused = jax.remat(lambda x: (x @ x, x @ jnp.cos(x)))(x)
        del unused
        return used, None
      return lax.scan(layer, x, length=3)[0]

    traced = jax.jit(layers).trace(struct(4, 4))
    self.assertEqual(counting.flops_of(traced), 3 * 128)

  def test_a_kernel_that_nothing_reads_counts_in_no_program(self):
    """JAX keeps it; a compiler leaves it out."""
    def kernel(x, y):
      y[...] = x[...] @ x[...]
    square = pl.pallas_call(kernel, jax.ShapeDtypeStruct((8, 8), jnp.float32))

    def layers(x):
      def layer(x, _):
        square(jnp.cos(x))
        return square(x), None
      return lax.scan(layer, x, length=3)[0]

    traced = jax.jit(layers).trace(struct(8, 8))
    self.assertEqual(counting.flops_of(traced), 3 * 1024)


if __name__ == '__main__':
  absltest.main()
