"""Cuts of a stream of frames, and picks of an example's frames."""
from absl.testing import absltest
import numpy as np

from walt_jax.data.storage import frames as frames_lib


class FramesTest(absltest.TestCase):

  def test_cut(self):
    def lengths(count, length, stride, least):
      frames = (np.full((1, 1, 3), k) for k in range(count))
      return [(int(c[0, 0, 0, 0]), len(c))
              for c in frames_lib.cut(frames, length, stride, least)]
    self.assertEqual(lengths(30, 12, 12, 5), [(0, 12), (12, 12), (24, 6)])
    self.assertEqual(lengths(28, 12, 12, 5), [(0, 12), (12, 12)])
    self.assertEqual(lengths(7, 12, 12, 5), [(0, 7)])
    self.assertEqual(lengths(4, 12, 12, 5), [])
    self.assertEqual(lengths(30, 10, 15, 5), [(0, 10), (15, 10)])
    self.assertEqual(lengths(16, 8, 4, 5), [(0, 8), (4, 8), (8, 8)])

  def test_no_rate_is_invented(self):
    pick = lambda *what: frames_lib.frame_indices(20, *what, None).tolist()
    for unknown in (None, 0.0):
      self.assertEqual(pick(unknown, 4, None), [8, 9, 10, 11])
      self.assertEqual(pick(unknown, 1, 8.0), [9])
      with self.assertRaisesRegex(ValueError, 'no frames at 8/s'):
        pick(unknown, 4, 8.0)

  def test_indices_of_random_strides(self):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
      indices = frames_lib.frame_indices(20, 10.0, 5, None, rng, (1, 2, 4, 8))
      steps, = set(np.diff(indices))
      seen.add(steps)
      self.assertBetween(indices[0], 0, indices[-1])
      self.assertLess(indices[-1], 20)
    self.assertEqual(seen, {1, 2, 4})  # 8 does not fit.
    np.testing.assert_array_equal(
        frames_lib.frame_indices(20, 10.0, 5, None, None, (2, 1)),
        [5, 7, 9, 11, 13])


if __name__ == '__main__':
  absltest.main()
