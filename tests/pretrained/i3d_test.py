"""The network is the one that FVD is defined by."""
import pickle
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from walt_jax.core import errors
from walt_jax.pretrained import i3d


class I3dTest(parameterized.TestCase):

  @pytest.mark.slow
  def test_published_distance_of_black_and_white(self):
    # TF-Hub's module gives 151.39 for clips of 30 frames of 224 x 224.
    params, info = i3d.load()
    self.assertEqual(info.sha256, i3d.SHA256)
    shape = (1, 30, i3d.IMAGE_SIZE, i3d.IMAGE_SIZE, 3)
    run = jax.jit(i3d.features)
    black, white = (np.asarray(run(params, jnp.full(shape, value)))[0]
                    for value in (-1.0, 1.0))
    self.assertAlmostEqual(
        float(np.square(black - white).sum()), 151.39, delta=0.02)

  @parameterized.parameters(
      ((1, 5, 9, 8, 4), (3, 3, 3), 1), ((2, 7, 6, 6, 3), (7, 7, 7), 2),
      ((1, 8, 7, 9, 2), (7, 7, 7), 2))
  @pytest.mark.slow
  def test_stacked_convolution_equals_native(self, shape, kernel, stride):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], shape)
    params = dict(kernel=jax.random.normal(keys[1], (*kernel, shape[-1], 5)),
                  bias=jnp.arange(5.0))
    convolve = i3d._conv3 if stride == 1 else i3d._stem
    stacked = convolve(x, params, 'stacked')
    native = convolve(x, params, 'native')
    np.testing.assert_allclose(stacked, native, rtol=1e-5, atol=1e-4)

  @parameterized.parameters(
      ((3, 3, 3), (1, 1, 1)), ((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)),
      ((2, 2, 2), (2, 2, 2)))
  def test_pooling_equals_window_maximum(self, window, stride):
    x = jax.nn.relu(jax.random.normal(jax.random.key(0), (2, 5, 8, 7, 3)))
    expected = jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *stride, 1), 'SAME')
    np.testing.assert_array_equal(i3d._max_pool(x, window, stride), expected)

  def test_too_few_frames_and_other_weights_are_refused(self):
    with self.assertRaisesRegex(ValueError, '9'):
      i3d.features({}, jnp.zeros((1, 8, 224, 224, 3)))
    with tempfile.NamedTemporaryFile() as file:
      file.write(pickle.dumps(dict(params={}, batch_stats={})))
      file.flush()
      with self.assertRaisesRegex(errors.UserError, 'give I3D weights'):
        i3d.load(file.name)


if __name__ == '__main__':
  absltest.main()
