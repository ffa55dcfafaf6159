from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.models import windows


def naive_partition(x, window):
  """Copies every token of every window in turn."""
  t, h, w = x.shape[1:4]
  wt, wh, ww = window
  cut = []
  for t0 in range(0, t, wt):
    for h0 in range(0, h, wh):
      for w0 in range(0, w, ww):
        cut.append(np.stack([
            x[:, t0 + i, h0 + j, w0 + k]
            for i in range(wt) for j in range(wh) for k in range(ww)], 1))
  return np.stack(cut, 1)


class WindowsTest(parameterized.TestCase):

  @parameterized.parameters(
      (1, 4, 6), (3, 2, 3), (3, 4, 6), (1, 2, 2), (3, 4, 3), (3, 2, 6),
      (1, 1, 1))
  def test_partition(self, *window):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6, 5))
    cut = windows.partition_windows(x, window)
    np.testing.assert_array_equal(cut, naive_partition(x, window))
    np.testing.assert_array_equal(
        windows.merge_windows(cut, window, (3, 4, 6)), x)

  def test_window_that_does_not_fit_is_refused(self):
    with self.assertRaisesRegex(ValueError, r'\(3, 4, 6\).*\(2, 2, 2\)'):
      windows.partition_windows(np.zeros((1, 3, 4, 6, 1)), (2, 2, 2))

  @parameterized.parameters(1, 2, 4)
  def test_patches(self, patch):
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 4, 8, 5)))
    cut = windows.patchify(x, patch)
    np.testing.assert_array_equal(
        cut[1, 2, -1, 0], x[1, 2, -patch:, :patch].reshape(-1))
    np.testing.assert_array_equal(windows.unpatchify(cut, patch), x)

  def test_patch_that_does_not_fit_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'patch 4'):
      windows.patchify(np.zeros((1, 1, 6, 8, 1)), 4)


if __name__ == '__main__':
  absltest.main()
