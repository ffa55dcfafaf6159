"""Tests of the patch discriminators."""
from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.tokenizer import discriminator

SMALL = dict(base_channels=4, channel_multipliers=(1, 2),
             time_downsample=(False, True))


def _variables(module, x):
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)


class DiscriminatorTest(parameterized.TestCase):

  def test_blur_keeps_constants_and_removes_the_highest_frequency(self):
    ones = jnp.ones((1, 5, 8, 8, 2))
    out = discriminator.blur_downsample(ones, (2, 2, 2))
    self.assertEqual(out.shape, (1, 3, 4, 4, 2))
    np.testing.assert_allclose(out, 1.0, rtol=1e-6)
    waves = ones * (-1.0) ** jnp.arange(8)[:, None]
    out = discriminator.blur_downsample(waves, (1, 1, 2))
    np.testing.assert_allclose(out[:, :, :, 1:-1], 0.0, atol=1e-6)

  @parameterized.parameters(('video', 5, (2, 3, 4, 4)),
                            ('image', 5, (2, 5, 4, 4)),
                            ('video', 1, (2, 1, 4, 4)))
  def test_gives_a_logit_a_patch(self, kind, frames, expected):
    module = discriminator.Discriminator(kind=kind, **SMALL)
    x = jax.random.normal(jax.random.key(0), (2, frames, 16, 16, 3))
    logits = jax.jit(module.apply)(_variables(module, x), x)
    self.assertEqual(logits.shape, expected)
    self.assertEqual(logits.dtype, jnp.float32)
    self.assertTrue(np.isfinite(logits).all())

  def test_image_discriminator_never_mixes_frames(self):
    module = discriminator.Discriminator(kind='image', **SMALL)
    x = jax.random.normal(jax.random.key(0), (1, 3, 16, 16, 3))
    variables, apply = _variables(module, x), jax.jit(module.apply)
    logits = apply(variables, x)
    other = apply(variables, x.at[:, 1].set(0.0))
    changed = np.abs(logits - other).max((0, 2, 3)) > 0
    np.testing.assert_array_equal(changed, [False, True, False])

  @parameterized.parameters('video', 'image')
  def test_forms_agree_and_are_the_librarys_convolution(self, kind):
    module = discriminator.Discriminator(kind=kind, **SMALL)
    x = jax.random.normal(jax.random.key(0), (2, 5, 16, 16, 3))
    variables = _variables(module, x)
    native = module.apply(variables, x)
    stacked = module.clone(conv_form='stacked').apply(variables, x)
    np.testing.assert_allclose(stacked, native, rtol=1e-4, atol=1e-4)
    taps = 3 if kind == 'video' else 1
    params = {'params': variables['params']['inputs']}
    np.testing.assert_allclose(
        discriminator.Conv(4, (taps, 3, 3), form='stacked').apply(params, x),
        nn.Conv(4, (taps, 3, 3)).apply(params, x), rtol=1e-4, atol=1e-4)

  def test_wrong_fields_are_named(self):
    x = jnp.zeros((1, 1, 8, 8, 3))
    with self.assertRaisesRegex(ValueError, "'audio'"):
      discriminator.Discriminator(kind='audio').init(jax.random.key(0), x)
    with self.assertRaisesRegex(ValueError, 'differ in length'):
      discriminator.Discriminator(time_downsample=(True,)).init(
          jax.random.key(0), x)


if __name__ == '__main__':
  absltest.main()
