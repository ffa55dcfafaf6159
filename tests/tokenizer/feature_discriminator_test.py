"""Tests of the discriminator on feature maps."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.tokenizer import discriminator
from walt_jax.tokenizer import feature_discriminator

# The maps below are half, as large as, and double the cell of 4 x 4 pixels.
SMALL = dict(base_channels=8, feature_maps=3)


def _pooled(images):
  """Stands for a network: means over 2, 4 and 8 pixels, a mix of each."""
  rng = np.random.default_rng(1)
  maps = []
  for size, channels in ((2, 4), (4, 5), (8, 6)):
    n, h, w, _ = images.shape
    mean = images.reshape(n, h // size, size, w // size, size, 3).mean((2, 4))
    maps.append(mean @ rng.normal(size=(3, channels)).astype(np.float32))
  return maps


def _variables(module, x, maps):
  shapes = jax.eval_shape(module.init, jax.random.key(0), x, maps)
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)


class FeatureDiscriminatorTest(parameterized.TestCase):

  def test_maps_are_each_frames_own(self):
    x = jax.random.normal(jax.random.key(0), (2, 5, 16, 16, 3))
    maps = feature_discriminator.frame_maps(_pooled, x)
    self.assertEqual([m.shape for m in maps], [
        (2, 5, 8, 8, 4), (2, 5, 4, 4, 5), (2, 5, 2, 2, 6)])
    for m, alone in zip(maps, _pooled(x[1, 3][None]), strict=True):
      np.testing.assert_allclose(m[1, 3], alone[0], rtol=1e-4, atol=1e-6)

  def test_finer_maps_are_stacked_and_coarser_ones_repeated(self):
    fine = jax.random.normal(jax.random.key(0), (1, 1, 4, 4, 2))
    cells = feature_discriminator.onto_cells(fine, (2, 2))
    unit = fine / jnp.sqrt(jnp.square(fine).mean(-1, keepdims=True))
    np.testing.assert_allclose(
        cells[0, 0, 1, 0], unit[0, 0, 2:, :2].reshape(-1), rtol=1e-3)
    coarse = feature_discriminator.onto_cells(fine, (8, 8))
    np.testing.assert_allclose(coarse[0, 0, 5, 2], unit[0, 0, 2, 1], rtol=1e-3)

  @parameterized.parameters('video', 'image')
  def test_every_source_counts_where_it_stands(self, kind):
    module = feature_discriminator.FeatureDiscriminator(kind=kind, **SMALL)
    x = jax.random.normal(jax.random.key(0), (2, 5, 16, 16, 3))
    maps = feature_discriminator.frame_maps(_pooled, x)
    variables, apply = _variables(module, x, maps), jax.jit(module.apply)
    logits = apply(variables, x, maps)
    self.assertEqual(logits.shape, (2, 5, 4, 4))
    self.assertEqual(logits.dtype, jnp.float32)
    sees = {'image': [2], 'video': [1, 2, 3]}[kind]
    for index in range(-1, len(maps)):
      # Frame 2, the lower right corner, of the pixels or of one map.
      turn = lambda a: a.at[:, 2, -1, -1].multiply(-1.0)
      others = [turn(m) if i == index else m for i, m in enumerate(maps)]
      other = apply(variables, turn(x) if index < 0 else x, others)
      changed = np.abs(other - logits) > 0
      np.testing.assert_array_equal(
          np.flatnonzero(changed.any((0, 2, 3))), sees)
      self.assertFalse(changed[..., :1, :1].any())

  def test_the_scale_of_maps_means_nothing(self):
    module = feature_discriminator.FeatureDiscriminator(**SMALL)
    x = jax.random.normal(jax.random.key(0), (1, 1, 16, 16, 3))
    maps = feature_discriminator.frame_maps(_pooled, x)
    variables = _variables(module, x, maps)
    scaled = [m * scale for m, scale in zip(maps, (30, 3, 7), strict=True)]
    np.testing.assert_allclose(
        module.apply(variables, x, scaled), module.apply(variables, x, maps),
        rtol=1e-2, atol=1e-2)

  def test_forms_agree(self):
    module = feature_discriminator.FeatureDiscriminator(**SMALL)
    x = jax.random.normal(jax.random.key(0), (1, 5, 16, 16, 3))
    maps = feature_discriminator.frame_maps(_pooled, x)
    variables = _variables(module, x, maps)
    np.testing.assert_allclose(
        module.clone(conv_form='stacked').apply(variables, x, maps),
        module.apply(variables, x, maps), rtol=1e-4, atol=1e-4)

  def test_wrong_fields_are_named(self):
    x = jnp.zeros((1, 1, 8, 8, 3))
    key = jax.random.key(0)
    module = feature_discriminator.FeatureDiscriminator(**SMALL)
    with self.assertRaisesRegex(ValueError, 'is 3, but 0 maps'):
      module.init(key, x, [])
    with self.assertRaisesRegex(ValueError, 'at least 1'):
      module.clone(feature_maps=0).init(key, x, [])
    with self.assertRaisesRegex(ValueError, "'audio'"):
      module.clone(kind='audio').init(key, x, [x] * 3)
    for size in ((6, 4), (4, 6), (8, 4), (2, 4), (2, 3)):
      with self.assertRaisesRegex(
          ValueError, f'{size[0]}x{size[1]} does not fit .* 4x4 cells'):
        feature_discriminator.onto_cells(
            jnp.zeros((1, 1, *size, 2)), (4, 4))
    with self.assertRaisesRegex(ValueError, 'map_shapes'):
      feature_discriminator.zero_maps(1, x, None)
    with self.assertRaisesRegex(ValueError, 'pixels alone'):
      discriminator.Discriminator(
          base_channels=4, channel_multipliers=(), time_downsample=()).init(
              key, x, [x])


if __name__ == '__main__':
  absltest.main()
