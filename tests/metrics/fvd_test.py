"""FVD through the whole path: golden value, preprocessing, refusals."""
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from walt_jax.core import moments as moments_lib
from walt_jax.metrics import baselines
from walt_jax.metrics import fvd
from walt_jax.metrics import video_features


def _resize_slow(image: np.ndarray, size: int) -> np.ndarray:
  """TF1's resize_bilinear (align_corners=False), pixel by pixel."""
  h, w, _ = image.shape
  out = np.zeros((size, size, image.shape[2]))
  for i in range(size):
    for j in range(size):
      y, x = i * h / size, j * w / size
      y0, x0 = int(y), int(x)
      y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
      top = image[y0, x0] + (image[y0, x1] - image[y0, x0]) * (x - x0)
      bottom = image[y1, x0] + (image[y1, x1] - image[y1, x0]) * (x - x0)
      out[i, j] = top + (bottom - top) * (y - y0)
  return out


class FvdTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.network = video_features.load_network()

  def setUp(self):
    super().setUp()
    warnings.simplefilter('ignore', UserWarning)

  @pytest.mark.slow
  def test_black_against_white_is_the_published_value(self):
    sets = [np.full((3, 30, 64, 64, 3), value, np.uint8) for value in (0, 255)]
    result = fvd.fvd(*sets, network=self.network)
    self.assertAlmostEqual(result['value'], 151.39, delta=0.3)
    self.assertEqual(result['frames'], 30)
    self.assertEqual(result['num_real'], 3)
    self.assertEqual(result['network']['name'], 'i3d-kinetics-400')

  @pytest.mark.slow
  def test_baselines_share_the_real_set_and_equal_clips(self):
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (2, 10, 32, 32, 3)).astype(np.uint8)
    self.network.cache.clear()
    scores = baselines.score_sets(
        real, dict(itself=real[::-1], mean=baselines.mean_clip(real, 2),
                   frozen=baselines.frozen_first_frames(real)),
        network=self.network)
    self.assertLen(self.network.cache, 2 + 1 + 2)
    self.assertLess(abs(scores['itself']['value']), 0.5)
    self.assertGreater(scores['mean']['value'], scores['itself']['value'] + 1)
    self.assertEqual(scores['frozen']['frames'], 10)

  @parameterized.parameters((4, 5), (9, 7), (5, 5))
  def test_resize_is_tf1s(self, height, width):
    image = np.random.default_rng(0).uniform(
        0, 255, (height, width, 2)).astype(np.float32)
    found = video_features.resize_tf1_bilinear(image, 7)
    np.testing.assert_allclose(found, _resize_slow(image, 7), atol=1e-3)

  @parameterized.parameters(
      (np.zeros((1, 16, 32, 32, 3), np.float32), 'uint8'),
      (np.zeros((1, 16, 32, 32, 1), np.uint8), 'uint8'),
      (np.zeros((1, 8, 32, 32, 3), np.uint8), '9'),
      (np.zeros((0, 16, 32, 32, 3), np.uint8), 'empty'))
  def test_other_input_is_refused(self, clips, message):
    with self.assertRaisesRegex(ValueError, message):
      fvd.feature_set(clips, self.network)

  def test_unlike_sets_are_refused(self):
    moments = moments_lib.Moments.of(np.zeros((2, 3)))
    network = dict(name='a', source='', sha256='')
    with self.assertRaisesRegex(ValueError, 'frames'):
      fvd.compare(fvd.FeatureSet(moments, 16, network),
                  fvd.FeatureSet(moments, 17, network))
    with self.assertRaisesRegex(ValueError, 'network'):
      fvd.compare(fvd.FeatureSet(moments, 16, network),
                  fvd.FeatureSet(moments, 16, network | dict(name='b')))


if __name__ == '__main__':
  absltest.main()
