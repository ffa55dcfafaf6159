"""Stored clips: equal bytes for equal clips, any frame of them."""
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.data.sources import moving_digits
from walt_jax.data.storage import codecs


class CodecsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    digits = moving_digits.MovingDigits(num_examples=1, num_frames=100, size=64)
    cls.clip = digits[0]['video']

  @parameterized.parameters(7.0, 25.0, 30000 / 1001, 240.0)
  def test_any_frames_of_a_stored_video(self, fps):
    data, = codecs.encode_clip(self.clip, 'h264', 90, fps)
    self.assertEqual(data, codecs.encode_clip(self.clip, 'h264', 90, fps)[0])
    whole = codecs.decode_video(data, np.arange(100))
    error = np.square(whole.astype(float) - self.clip).mean()
    self.assertLess(error, 20)  # 35 dB.
    for first in (0, 1, 30, 31, 32, 33, 63, 64, 65, 80):
      indices = first + np.array([0, 1, 5, 17])
      np.testing.assert_array_equal(codecs.decode_video(data, indices),
                                    whole[indices])
    with self.assertRaisesRegex(ValueError, '100 frames, not 102'):
      codecs.decode_video(data, np.array([99, 101]))

  @parameterized.parameters('asm=0', 'asm=sse4.2', 'asm=avx2')
  def test_bytes_do_not_depend_on_the_processor(self, instructions):
    clip = self.clip[:40, :, :51]
    want = codecs.encode_clip(clip, 'h264', 95, 25.0)
    with mock.patch.object(codecs, '_X264', f'{codecs._X264}:{instructions}'):
      self.assertEqual(codecs.encode_clip(clip, 'h264', 95, 25.0), want)

  def test_sizes(self):
    data, = codecs.encode_clip(self.clip[:, :, :48], 'h264', 90, 8.0)
    example = dict(video_file=data, num_frames=100, height=64, width=48)
    indices = np.array([40, 41])
    self.assertEqual(codecs.read_clip(example, indices, 32, 32).shape,
                     (2, 32, 32, 3))
    small = codecs.decode_video(data, indices, (32, 24))
    exact = self.clip[indices, :, :48].reshape(2, 32, 2, 24, 2, 3).mean((2, 4))
    self.assertLess(np.abs(small - exact).mean(), 8)

  @parameterized.parameters('jpeg', 'png')
  def test_frames(self, codec):
    encoded = codecs.encode_clip(self.clip[:3], codec, 95, 8.0)
    decoded = codecs.decode_frames(encoded).astype(int)
    self.assertLessEqual(np.abs(decoded - self.clip[:3]).max(),
                         0 if codec == 'png' else 40)


if __name__ == '__main__':
  absltest.main()
