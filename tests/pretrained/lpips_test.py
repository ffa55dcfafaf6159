"""LPIPS of seeded random weights is what the package `lpips` computes."""
import importlib.util
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.core import errors
from walt_jax.pretrained import lpips

# Outputs and kernel sizes of each backbone's convolutions, and where.
_CONVS = {
    'alex': {0: (64, 11), 3: (192, 5), 6: (384, 3), 8: (256, 3), 10: (256, 3)},
    'vgg': dict.fromkeys((0, 2), (64, 3)) | dict.fromkeys((5, 7), (128, 3)) |
           dict.fromkeys((10, 12, 14), (256, 3)) |
           dict.fromkeys((17, 19, 21, 24, 26, 28), (512, 3))}
_TAPS = {'alex': (64, 192, 384, 256, 256), 'vgg': (64, 128, 256, 512, 512)}
# Printed by tests/parity/lpips_parity_test.py, of `lpips` 0.1.4.
GOLDEN = {'alex': (0.028057994320988655, 0.3293992280960083),
           'vgg': (0.021522292867302895, 0.2269556075334549)}


def backbone_state(name: str) -> dict[str, np.ndarray]:
  """A random backbone as torchvision names its parts."""
  rng = np.random.default_rng(0)
  state, inputs = {}, 3
  for number, (outputs, size) in _CONVS[name].items():
    shape = (outputs, inputs, size, size)
    state[f'features.{number}.weight'] = (
        rng.standard_normal(shape, np.float32)
        * np.float32(np.sqrt(2 / np.prod(shape[1:]))))
    state[f'features.{number}.bias'] = 0.1 * rng.standard_normal(
        outputs, np.float32)
    inputs = outputs
  return state


def head_state(name: str) -> dict[str, np.ndarray]:
  """Random heads as the package names them."""
  rng = np.random.default_rng(1)
  return {f'lin{tap}.model.1.weight': rng.random(
      (1, width, 1, 1), np.float32) for tap, width in enumerate(_TAPS[name])}


def images() -> tuple[np.ndarray, np.ndarray]:
  """Two pairs of images [2, 40, 48, 3] in [-1, 1]."""
  rng = np.random.default_rng(2)
  a = rng.uniform(-1, 1, (2, 40, 48, 3)).astype(np.float32)
  scale = np.array([0.1, 0.5], np.float32)[:, None, None, None]
  noise = scale * rng.standard_normal(a.shape, np.float32)
  return a, np.clip(a + noise, -1, 1)


class LpipsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def write(self, name: str, arrays: dict[str, np.ndarray]) -> pathlib.Path:
    path = self.folder / name
    np.savez(path, **arrays)
    return path

  @parameterized.parameters('alex', 'vgg')
  def test_distances_are_those_of_the_package(self, name):
    params, info = lpips.load(
        self.write('backbone.npz', backbone_state(name)),
        self.write('heads.npz', head_state(name)))
    self.assertEqual(info.name, f'lpips-{name}-v0.1')
    found = jax.jit(lpips.distance)(params, *images())
    np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-5)
    a, _ = images()
    np.testing.assert_array_equal(lpips.distance(params, a, a), 0)

  def test_other_files_are_refused(self):
    state, heads = backbone_state('alex'), head_state('alex')
    less = {key: value for key, value in state.items()
            if key != 'features.10.bias'}
    other = self.write('other.npz', {'x': np.zeros(3)})
    good = self.write('good.npz', state)
    for backbone, head, pattern in (
        (other, None, 'no AlexNet or VGG16'),
        (good, other, 'no lin0.model.1.weight'),
        (self.write('less.npz', less), self.write('heads.npz', heads),
         'no features.10.bias'),
        (good, None, "'pip install --no-deps lpips==0.1.4'")):
      with (self.subTest(pattern),
            mock.patch.object(importlib.util, 'find_spec', lambda name: None),
            self.assertRaisesRegex(errors.UserError, pattern) as raised):
        lpips.load(backbone, head)
      self.assertNotIn('\n', str(raised.exception))
    params, _ = lpips.load(good, self.write('heads.npz', heads))
    small = np.zeros((1, 31, 40, 3))
    with self.assertRaisesRegex(ValueError, '32 pixels'):
      lpips.distance(params, small, small)


if __name__ == '__main__':
  absltest.main()
