"""AdaLN and AdaLN-LoRA: zero at the start, and the rank of what is added."""
from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models import modulation


class Linear(nn.Module):
  """`linear_modulation` as a module."""

  @nn.compact
  def __call__(self, embedding):
    return modulation.linear_modulation(embedding, 6, 5, 'layer')


class ModulationTest(parameterized.TestCase):

  def test_modulate_scales_and_shifts_each_frame(self):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 2, 2, 4))
    shift, scale = rng.normal(size=(2, 2, 3, 4))
    found = np.asarray(modulation.modulate(x, shift, scale))
    for b, t, h, w in np.ndindex(x.shape[:-1]):
      np.testing.assert_allclose(
          found[b, t, h, w],
          x[b, t, h, w] * (1 + scale[b, t]) + shift[b, t], rtol=1e-5)

  def test_one_vector_of_a_video_serves_all_frames(self):
    x = np.ones((2, 3, 1, 1, 4))
    scale = np.arange(8.0).reshape(2, 1, 4)
    found = np.asarray(modulation.modulate(x, np.zeros_like(scale), scale))
    np.testing.assert_array_equal(
        found, np.broadcast_to(1 + scale[:, :, None, None], x.shape))

  def test_both_forms_start_at_zero(self):
    embedding = jax.random.normal(jax.random.key(0), (2, 3, 8))
    for module in (Linear(), modulation.LowRankModulation(rank=2)):
      found, _ = module.init_with_output(jax.random.key(1), embedding)
      self.assertFalse(np.any(found))

  @parameterized.parameters(1, 2, 5)
  def test_a_layer_adds_a_map_of_its_rank(self, rank):
    width = 16
    module = modulation.LowRankModulation(rank)
    params = module.init(jax.random.key(0), jnp.ones((1, 1, width)))['params']
    self.assertEqual(
        {name: leaf['kernel'].shape for name, leaf in params.items()},
        dict(down=(width, rank), up=(rank, 6 * width)))
    params = jax.tree.map(
        lambda x: jax.random.normal(jax.random.key(1), x.shape), params)
    apply = lambda x: module.apply({'params': params}, x)
    matrix = apply(jnp.eye(width)[None])[0]
    self.assertEqual(np.linalg.matrix_rank(matrix, tol=1e-3), rank)


if __name__ == '__main__':
  absltest.main()
