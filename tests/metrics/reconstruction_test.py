"""SSIM against scikit-image; what flicker and distance see."""
import pathlib
import tempfile

from absl.testing import absltest
import jax.numpy as jnp
import numpy as np
from skimage import metrics

from tests.pretrained import lpips_test
from walt_jax.metrics import reconstruction
from walt_jax.pretrained import efficientnet
from walt_jax.pretrained import lpips


class ReconstructionTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.a = rng.uniform(size=(2, 3, 20, 24, 3)).astype(np.float32)
    noise = 0.2 * rng.normal(size=self.a.shape)
    self.b = np.clip(self.a + noise, 0, 1).astype(np.float32)

  def test_ssim_is_scikit_images(self):
    found = reconstruction.ssim(self.a, self.b)
    for i in range(2):
      expected = np.mean([metrics.structural_similarity(
          x, y, data_range=1, channel_axis=-1, gaussian_weights=True,
          sigma=1.5, use_sample_covariance=False)
          for x, y in zip(self.a[i], self.b[i], strict=True)])
      self.assertAlmostEqual(float(found[i]), expected, places=4)

  def test_flicker_sees_only_errors_that_move(self):
    still = self.a + 0.3
    np.testing.assert_allclose(
        reconstruction.flicker(self.a, still), 0, atol=1e-6)
    self.assertGreater(
        float(reconstruction.flicker(self.a, self.b)[0]), 0.1)

  def test_distance_of_scaled_features_is_zero(self):
    features = lambda x: [x + 2, x[:, ::2] + 2]
    scaled = lambda x: [3 * m for m in features(x)]
    a, b = jnp.asarray(self.a), jnp.asarray(self.b)
    distance = reconstruction.perceptual_distance(features, a, b)
    self.assertEqual(distance.shape, (2,))
    np.testing.assert_allclose(
        distance, reconstruction.perceptual_distance(scaled, a, b), rtol=1e-3)
    np.testing.assert_allclose(
        reconstruction.perceptual_distance(features, a, a), 0, atol=1e-6)

  def test_distances_grow_with_noise(self):
    network = reconstruction.load_networks()
    rng = np.random.default_rng(1)
    ramp = np.linspace(40, 200, 32)[:, None] * np.linspace(0.5, 1, 32)
    clip = np.broadcast_to(ramp[None, None, :, :, None], (1, 5, 32, 32, 3))
    noise = rng.normal(size=clip.shape)
    noisy = lambda scale: np.clip(
        np.rint(clip + scale * noise), 0, 255).astype(np.uint8)
    rows = [reconstruction.compare_clips(noisy(0), noisy(scale), network)
            for scale in (0, 5, 25)]
    self.assertEqual(rows[0]['psnr'], 100.0)
    for name, sign in (('psnr', -1), ('ssim', -1), ('perceptual', 1),
                       ('perceptual_lite2', 1), ('flicker', 1), ('l1', 1)):
      values = [sign * row[name] for row in rows]
      self.assertEqual(values, sorted(values), name)
      self.assertLess(values[0], values[-1], name)

  def test_the_second_network_is_another_one(self):
    rng = np.random.default_rng(1)  # Shapes as above: compiled once.
    a, b = rng.integers(0, 256, (2, 1, 5, 32, 32, 3)).astype(np.uint8)
    found = reconstruction.summary(
        zip(a, b, strict=True), reconstruction.load_networks())
    self.assertNotAlmostEqual(
        found['perceptual'], found['perceptual_lite2'], places=3)
    for name, network in (('perceptual', 'efficientnet-lite0'),
                          ('perceptual_lite2', 'efficientnet-lite2')):
      self.assertEqual(found[f'{name}_network']['name'], network)
      self.assertEqual(found[f'{name}_network']['sha256'],
                       efficientnet.VARIANTS[network].sha256)

  def test_lpips_is_the_mean_of_its_frames(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    files = folder / 'backbone.npz', folder / 'heads.npz'
    for path, state in zip(files, (lpips_test.backbone_state('alex'),
                                   lpips_test.head_state('alex')),
                           strict=True):
      np.savez(path, **state)
    clips = [np.rint(127.5 * (frames + 1)).astype(np.uint8)[None]
             for frames in lpips_test.images()]
    params, info = lpips.load(*files)
    found = reconstruction.summary(
        zip(*clips, strict=True), reconstruction.PerceptualNetworks(
            {reconstruction.LPIPS: params}, {reconstruction.LPIPS: info}))
    self.assertAlmostEqual(
        found['lpips'], np.mean(lpips_test.GOLDEN['alex']), delta=2e-3)
    self.assertEqual(found['lpips_network']['name'], 'lpips-alex-v0.1')


if __name__ == '__main__':
  absltest.main()
