"""EfficientNet-Lite0 recognises photographs, and its forms agree."""
from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data
from skimage import transform

from walt_jax.pretrained import efficientnet


def _photograph(name: str) -> np.ndarray:
  image = getattr(data, name)()
  side = min(image.shape[:2])
  top, left = ((extent - side) // 2 for extent in image.shape[:2])
  square = image[top:top + side, left:left + side]
  size = (efficientnet.IMAGE_SIZE,) * 2
  return np.rint(
      transform.resize(square, size, anti_aliasing=True) * 255).astype(np.uint8)


class EfficientnetTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.params, _ = efficientnet.load()

  @pytest.mark.slow
  def test_classifies_photographs(self):
    images = np.stack([_photograph(n) for n in ('cat', 'coffee', 'rocket')])
    logits = jax.jit(efficientnet.logits)(self.params, images)
    top = np.argsort(-np.asarray(logits), axis=1)
    self.assertIn(285, top[0, :1])  # Egyptian cat.
    self.assertIn(967, top[1, :1])  # Espresso.
    self.assertIn(top[2, 0], (657, 744))  # Missile; projectile, missile.

  @pytest.mark.slow
  def test_depthwise_forms_agree(self):
    for stride in (1, 2):
      for size in (3, 5):
        x = jax.random.normal(jax.random.key(size), (2, 9, 8, 6))
        params = dict(
            kernel=jax.random.normal(jax.random.key(1), (size, size, 1, 6)),
            bias=jnp.arange(6.0))
        taps, native = (
            efficientnet._depthwise(x, params, stride, form)
            for form in ('taps', 'native'))
        np.testing.assert_allclose(taps, native, rtol=1e-5, atol=1e-5)

  def test_feature_maps_halve_each_time(self):
    images = np.zeros((1, 64, 32, 3), np.uint8)
    maps = jax.eval_shape(efficientnet.features, self.params, images)
    self.assertEqual(
        [m.shape[1:3] for m in maps],
        [(64 // s, 32 // s) for s in efficientnet.MAP_STRIDES])
    odd = jax.eval_shape(efficientnet.features, self.params,
                         np.zeros((1, 40, 24, 3), np.uint8))
    self.assertEqual([m.shape[1:] for m in odd],
                     efficientnet.map_shapes((40, 24)))

  def test_uint8_and_float_input_agree(self):
    pixels = np.random.default_rng(0).integers(
        0, 256, (1, 32, 32, 3)).astype(np.uint8)
    first = efficientnet._to_input(pixels)
    second = efficientnet._to_input(pixels.astype(np.float32) / 127.5 - 1)
    np.testing.assert_allclose(first, second, atol=1e-6)


if __name__ == '__main__':
  absltest.main()
