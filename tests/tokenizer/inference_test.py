"""Tests of the trained tokenizer as other stages use it."""
import pathlib
import tempfile

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.core import pixels as pixels_lib
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics

CONFIG = dict(base_channels=8, blocks_per_level=1, latent_channels=3)


def _build(config):
  return autoencoder.Autoencoder(
      channel_multipliers=(1,), time_downsample=(), middle_blocks=0,
      norm='position', adaptive_decoder=False, stem_patch=(4, 4, 4),
      stem_kernel=(1, 1, 1), head_kernel=(1, 1, 1), conv_form='stacked',
      **config)


class FrozenTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.module = _build(CONFIG)
    shapes = jax.eval_shape(cls.module.init, jax.random.key(0),
                            jnp.zeros((1, 5, 8, 8, 3)))['params']
    rng = np.random.default_rng(0)
    cls.params = jax.tree.map(
        lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)
    cls.statistics = statistics.LatentStatistics(
        mean=np.array([1.0, 2.0, 3.0], np.float32),
        std=np.array([0.5, 1.0, 2.0], np.float32))

  def _save(self):
    directory = pathlib.Path(tempfile.mkdtemp()) / 'tokenizer'
    sha256 = inference.save_tokenizer(directory, self.params, self.statistics,
                                   CONFIG)
    return directory, sha256

  def test_save_and_load_round_trip(self):
    directory, sha256 = self._save()
    loaded = inference.load_tokenizer(directory, _build)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, self.params)
    jax.tree.map(np.testing.assert_array_equal, loaded.statistics,
                 self.statistics)
    self.assertEqual(loaded.config, CONFIG)
    self.assertEqual(loaded.module, self.module)
    self.assertEqual(loaded.sha256, sha256)
    self.assertLen(sha256, 64)

  def test_other_weights_are_refused_by_name(self):
    directory, _ = self._save()
    with self.assertRaisesRegex(errors.UserError, 'shape'):
      inference.load_tokenizer(
          directory, lambda c: _build(c | {'base_channels': 16}))
    inference.exports.save_export(directory, {'blocks': self.params}, {})
    with self.assertRaisesRegex(errors.UserError, "'blocks'"):
      inference.load_tokenizer(directory, _build)
    with self.assertRaisesRegex(errors.UserError, 'nowhere'):
      inference.load_tokenizer('nowhere', _build)

  def test_an_image_is_the_first_frame_of_a_video(self):
    clip = np.random.default_rng(0).integers(
        0, 256, (2, 5, 8, 8, 3), np.uint8)
    video = inference.encode_posterior(self.module, self.params, clip).mean
    images = inference.encode_images(self.module, self.params, clip).mean
    self.assertEqual(images.shape, (2, 5, 2, 2, 3))
    np.testing.assert_allclose(images[:, 0], video[:, 0], atol=1e-5)
    self.assertGreater(np.abs(images[:, 1] - video[:, 1]).max(), 0.01)
    decode = lambda latents: inference.decode_pixels(
        self.module, self.params, self.statistics, latents)
    np.testing.assert_allclose(
        decode(video[:, :1]), decode(video)[:, :1], atol=1e-5)

  def test_pixels_in_both_scales_encode_alike(self):
    clip = np.random.default_rng(0).integers(
        0, 256, (1, 1, 8, 8, 3), np.uint8)
    scaled = pixels_lib.to_unit_range(jnp.asarray(clip))
    np.testing.assert_array_equal(pixels_lib.to_uint8(scaled), clip)
    a = inference.encode_posterior(self.module, self.params, clip).mean
    b = inference.encode_posterior(self.module, self.params, scaled).mean
    np.testing.assert_array_equal(a, b)

  def test_decoding_undoes_the_normalisation(self):
    z = jax.random.normal(jax.random.key(1), (1, 2, 2, 2, 3))
    raw = self.module.apply({'params': self.params}, z, method='decode')
    ours = inference.decode_pixels(
        self.module, self.params, self.statistics,
        statistics.normalise(z, self.statistics))
    np.testing.assert_allclose(ours, jnp.clip(raw, -1, 1), atol=1e-5)


if __name__ == '__main__':
  absltest.main()
