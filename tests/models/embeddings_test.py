"""Embeddings of time and position: definitions, and what images see."""
from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models import embeddings


class SinusoidalFeaturesTest(absltest.TestCase):

  def test_are_cosines_and_sines_of_geometric_rates(self):
    times = np.array([[0.0, 0.25], [0.5, 1.0]])
    found = np.asarray(embeddings.sinusoidal_features(times, 8))
    for position, time in np.ndenumerate(times):
      for i in range(4):
        angle = 1000 * time / 10_000 ** (i / 4)
        np.testing.assert_allclose(
            found[position][[i, 4 + i]], [np.cos(angle), np.sin(angle)],
            atol=1e-4)

  def test_times_a_sampler_step_apart_differ(self):
    features = np.asarray(embeddings.sinusoidal_features(
        jnp.linspace(0, 1, 1001)))
    self.assertEqual(features.shape, (1001, embeddings.NUM_FREQUENCIES))
    apart = np.linalg.norm(np.diff(features, axis=0), axis=1)
    self.assertGreater(apart.min(), 0.1)


class TimestepEmbeddingTest(absltest.TestCase):

  def test_is_of_order_one_and_of_each_time_alone(self):
    module = embeddings.TimestepEmbedding(64)
    times = jax.random.uniform(jax.random.key(0), (4, 3))
    found, params = module.init_with_output(jax.random.key(1), times)
    self.assertEqual(found.shape, (4, 3, 64))
    self.assertBetween(float(found.std()), 0.2, 2.0)
    alone = module.apply(params, times[1:2, 2:])
    np.testing.assert_allclose(alone[0, 0], found[1, 2], atol=1e-5)


class PositionEmbeddingTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.module = embeddings.PositionEmbedding(init_scale=1.0)
    self.x = jnp.zeros((2, 3, 2, 2, 4))
    self.params = self.module.init(jax.random.key(0), self.x, None)

  def test_adds_a_table_of_space_and_one_of_time(self):
    found = np.asarray(self.module.apply(self.params, self.x, None))
    tables = self.params['params']
    for _, t, h, w in np.ndindex(found.shape[:-1]):
      np.testing.assert_allclose(
          found[0, t, h, w], tables['space'][h, w] + tables['time'][t],
          rtol=1e-6)

  def test_images_take_the_time_of_the_first_frame(self):
    found = np.asarray(self.module.apply(
        self.params, self.x, jnp.array([True, False])))
    videos = np.asarray(self.module.apply(self.params, self.x, None))
    np.testing.assert_array_equal(found[1], videos[1])
    for frame in range(3):
      np.testing.assert_array_equal(found[0, frame], videos[0, 0])
    self.assertGreater(np.abs(videos[0, 1] - videos[0, 0]).max(), 0.1)

  def test_the_type_of_tokens_is_kept(self):
    found = self.module.apply(self.params, self.x.astype(jnp.bfloat16), None)
    self.assertEqual(found.dtype, jnp.bfloat16)


if __name__ == '__main__':
  absltest.main()
