"""PSNR against scikit-image; what training logs is what is scored."""
from absl.testing import absltest
import jax.numpy as jnp
import numpy as np
from skimage import metrics

from walt_jax.core import distances
from walt_jax.core import types
from walt_jax.metrics import reconstruction
from walt_jax.tokenizer import losses
from walt_jax.training import state as train_state
from walt_jax.training import tokenizer_eval


class Darker:
  """An autoencoder whose reconstructions are too dark."""

  def apply(self, variables, pixels):
    return pixels * variables['params'] - 0.0123, None


class PsnrTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.a = rng.uniform(size=(2, 3, 20, 24, 3)).astype(np.float32)
    noise = 0.2 * rng.normal(size=self.a.shape)
    self.b = np.clip(self.a + noise, 0, 1).astype(np.float32)

  def test_is_scikit_images_on_either_scale(self):
    found = distances.psnr(self.a, self.b, peak=1.0)
    scaled = distances.psnr(2 * self.a - 1, 2 * self.b - 1, peak=2.0)
    np.testing.assert_allclose(scaled, found, rtol=1e-5)
    for i in range(2):
      self.assertAlmostEqual(
          float(found[i]), metrics.peak_signal_noise_ratio(
              self.a[i], self.b[i], data_range=1), places=3)

  def test_equal_clips(self):
    self.assertEqual(float(distances.psnr(self.a, self.a, peak=1.0)[0]), 100.0)

  def test_held_out_psnr_is_what_is_scored(self):
    clips = np.random.default_rng(1).integers(
        0, 256, (2, 5, 32, 32, 3)).astype(np.uint8)
    batch = types.Batch(videos=types.Rows(pixels=clips))
    state = train_state.TrainState(
        step=0, params={'autoencoder': None}, opt_state={},
        ema={'0.9': jnp.float32(0.8)})
    scores, images = tokenizer_eval.TokenizerEvaluation(
        Darker(), [batch], 0)(state, {}, None)
    self.assertEmpty(images)
    decoded = (clips / 127.5 - 1) * 0.8 - 0.0123
    seen = np.clip(np.rint((decoded + 1) * 127.5), 0, 255).astype(np.uint8)
    scored = reconstruction.compare_clips(
        clips, seen, reconstruction.load_networks())
    # But for rounding to 8 bits.
    self.assertAlmostEqual(scores['psnr'], scored['psnr'], places=2)


class FeatureDistancesTest(absltest.TestCase):

  def test_loss_is_the_score(self):
    kernel = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32)
    features = lambda x: [x @ kernel, jnp.tanh(x[:, ::2, ::2] @ kernel)]
    rng = np.random.default_rng(3)
    a, b = rng.uniform(-1, 1, (2, 4, 3, 8, 8, 3)).astype(np.float32)
    # Nearly black features, where an offset of the norm would tell.
    a[0], b[0] = 1e-4 * a[0], 1e-4 * b[0]
    images = lambda x: x.reshape(-1, *x.shape[2:])
    np.testing.assert_allclose(
        losses.perceptual(features, images(a), images(b)),
        reconstruction.perceptual_distance(features, a, b).mean(), rtol=1e-5)

  def test_against_hand(self):
    a = np.array([3.0, 4.0]).reshape(1, 1, 1, 2)
    b = np.array([5.0, 0.0]).reshape(1, 1, 1, 2)
    (found,) = distances.feature_distances([a], [b])
    np.testing.assert_allclose(found, [[[0.4 ** 2 + 0.8 ** 2]]], rtol=1e-5)


if __name__ == '__main__':
  absltest.main()
