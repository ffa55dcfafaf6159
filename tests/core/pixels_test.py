"""Ranges, crops, means and mirror images of pixels."""
from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from walt_jax.core import pixels


class PixelsTest(parameterized.TestCase):

  def test_crops(self):
    clip = np.arange(6 * 9, dtype=np.uint8).reshape(1, 6, 9, 1).repeat(3, -1)
    np.testing.assert_array_equal(pixels.fit(clip, 6, 5), clip[:, :, 2:7])
    crops = [pixels.fit(clip, 6, 5, np.random.default_rng(seed))
             for seed in range(30)]
    self.assertEqual({crop[0, 0, 0, 0] for crop in crops}, {0, 1, 2, 3, 4})

  @parameterized.parameters((20, 80), (80, 24), (40, 60))
  def test_the_middle_is_kept(self, height, width):
    """Black bars that lie outside the largest window vanish."""
    image = np.zeros((height, width, 3), np.uint8)
    scale = min(height / 8, width / 12)
    rows, columns = round(8 * scale), round(12 * scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    image[top:top + rows, left:left + columns] = 200
    fitted = pixels.fit(image[None], 8, 12)
    self.assertEqual(fitted.shape, (1, 8, 12, 3))
    inner = fitted[:, 2:-2, 2:-2]  # The filter looks around it.
    np.testing.assert_array_equal(inner, np.full_like(inner, 200))

  def test_resizing_is_antialiased(self):
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 200
    fitted = pixels.fit(stripes, 16, 16).astype(int)
    self.assertLess(np.abs(fitted[:, 2:-2, 2:-2] - 100).max(), 12)

  def test_mirror(self):
    clip = np.random.default_rng(0).integers(0, 256, (3, 8, 15, 3), np.uint8)
    np.testing.assert_array_equal(pixels.mirror(clip), clip[:, :, ::-1])

  def test_ranges_of_both_kinds_of_array(self):
    levels = np.arange(256, dtype=np.uint8)
    for kind in (np.asarray, jnp.asarray):
      scaled = pixels.to_unit_range(kind(levels))
      self.assertIsInstance(scaled, type(kind(levels)))
      self.assertEqual(scaled.dtype, np.float32)
      np.testing.assert_allclose(scaled, np.linspace(-1, 1, 256), atol=2e-7)
      np.testing.assert_array_equal(pixels.to_uint8(scaled), levels)
      np.testing.assert_array_equal(pixels.to_unit_range(scaled), scaled)
      np.testing.assert_array_equal(
          pixels.to_uint8(kind(np.float32([-3.0, 3.0]))), [0, 255])

  @parameterized.parameters(2, 3)
  def test_means_over_boxes(self, factor):
    clip = np.random.default_rng(0).integers(0, 256, (2, 6, 12, 3), np.uint8)
    want = [[[[clip[t, y:y + factor, x:x + factor, c].mean()
               for c in range(3)] for x in range(0, 12, factor)]
             for y in range(0, 6, factor)] for t in range(2)]
    for kind in (np.asarray, jnp.asarray):
      small = pixels.downsample(kind(clip), factor)
      self.assertEqual(small.dtype, np.uint8)
      np.testing.assert_allclose(small, want, atol=0.5)
      scaled = pixels.downsample(pixels.to_unit_range(kind(clip)), factor)
      self.assertEqual(scaled.dtype, np.float32)
      np.testing.assert_allclose(pixels.to_uint8(scaled), want, atol=0.501)
    with self.assertRaisesRegex(ValueError, '6x12 pixels do not divide by 5'):
      pixels.downsample(clip, 5)


if __name__ == '__main__':
  absltest.main()
