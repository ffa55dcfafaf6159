"""InceptionV3's two files give one network; look-alikes are refused."""
import pathlib
import tempfile

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from tests.pretrained import tensorflow_files_test
from walt_jax.core import errors
from walt_jax.pretrained import inception

# Kernel sizes and widths that differ from 'as named' (rows, columns).
_C7 = {'Mixed_6b': 128, 'Mixed_6c': 160, 'Mixed_6d': 160, 'Mixed_6e': 192}
_STEM = {'Conv2d_1a_3x3': (3, 3, 3, 32), 'Conv2d_2a_3x3': (3, 3, 32, 32),
         'Conv2d_2b_3x3': (3, 3, 32, 64), 'Conv2d_3b_1x1': (1, 1, 64, 80),
         'Conv2d_4a_3x3': (3, 3, 80, 192)}


def _block_shapes(block: str, inputs: int, pooled: int) -> dict[str, tuple]:
  if block.startswith('Mixed_5'):
    return dict(
        branch1x1=(1, 1, inputs, 64), branch5x5_1=(1, 1, inputs, 48),
        branch5x5_2=(5, 5, 48, 64), branch3x3dbl_1=(1, 1, inputs, 64),
        branch3x3dbl_2=(3, 3, 64, 96), branch3x3dbl_3=(3, 3, 96, 96),
        branch_pool=(1, 1, inputs, pooled))
  if block == 'Mixed_6a':
    return dict(
        branch3x3=(3, 3, inputs, 384), branch3x3dbl_1=(1, 1, inputs, 64),
        branch3x3dbl_2=(3, 3, 64, 96), branch3x3dbl_3=(3, 3, 96, 96))
  if block in _C7:
    c = _C7[block]
    return dict(
        branch1x1=(1, 1, inputs, 192), branch7x7_1=(1, 1, inputs, c),
        branch7x7_2=(1, 7, c, c), branch7x7_3=(7, 1, c, 192),
        branch7x7dbl_1=(1, 1, inputs, c), branch7x7dbl_2=(7, 1, c, c),
        branch7x7dbl_3=(1, 7, c, c), branch7x7dbl_4=(7, 1, c, c),
        branch7x7dbl_5=(1, 7, c, 192), branch_pool=(1, 1, inputs, 192))
  if block == 'Mixed_7a':
    return dict(
        branch3x3_1=(1, 1, inputs, 192), branch3x3_2=(3, 3, 192, 320),
        branch7x7x3_1=(1, 1, inputs, 192), branch7x7x3_2=(1, 7, 192, 192),
        branch7x7x3_3=(7, 1, 192, 192), branch7x7x3_4=(3, 3, 192, 192))
  return dict(
      branch1x1=(1, 1, inputs, 320), branch3x3_1=(1, 1, inputs, 384),
      branch3x3_2a=(1, 3, 384, 384), branch3x3_2b=(3, 1, 384, 384),
      branch3x3dbl_1=(1, 1, inputs, 448), branch3x3dbl_2=(3, 3, 448, 384),
      branch3x3dbl_3a=(1, 3, 384, 384), branch3x3dbl_3b=(3, 1, 384, 384),
      branch_pool=(1, 1, inputs, 192))


_INPUTS = {'Mixed_5b': (192, 32), 'Mixed_5c': (256, 64),
           'Mixed_5d': (288, 64), 'Mixed_6a': (288, 0), 'Mixed_6b': (768, 0),
           'Mixed_6c': (768, 0), 'Mixed_6d': (768, 0), 'Mixed_6e': (768, 0),
           'Mixed_7a': (768, 0), 'Mixed_7b': (1280, 0), 'Mixed_7c': (2048, 0)}


def random_state(classes: int = 1008, seed: int = 0) -> dict[str, np.ndarray]:
  """A PyTorch state dictionary that keeps activations of order one."""
  rng = np.random.default_rng(seed)
  shapes = dict(_STEM)
  for block, (inputs, pooled) in _INPUTS.items():
    for unit, shape in _block_shapes(block, inputs, pooled).items():
      shapes[f'{block}.{unit}'] = shape
  state = {}
  for name, (rows, cols, inputs, outputs) in shapes.items():
    scale = np.float32(np.sqrt(2.0 / (rows * cols * inputs)))
    state[f'{name}.conv.weight'] = scale * rng.standard_normal(
        (outputs, inputs, rows, cols), np.float32)
    for part, low, high in (('weight', 0.8, 1.2), ('bias', -0.1, 0.1),
                            ('running_mean', -0.1, 0.1),
                            ('running_var', 0.8, 1.2)):
      state[f'{name}.bn.{part}'] = rng.uniform(low, high, outputs).astype(
          np.float32)
  state['fc.weight'] = rng.standard_normal(
      (classes, 2048), np.float32) / np.float32(20)
  state['fc.bias'] = np.ones(classes, np.float32)
  return state


def graph_bytes(state: dict[str, np.ndarray]) -> bytes:
  """The same weights as TensorFlow's frozen graph has them."""
  nodes = []
  units = [(name, scope) for name, scope in inception._STEM.items()] + [
      (f'{block}.{unit}', f'{scope}/{where}')
      for block, (scope, units) in inception._BLOCKS.items()
      for unit, where in units.items()]
  for name, scope in units:
    nodes.append(tensorflow_files_test.constant_node(
        f'{scope}/conv2d_params',
        state[f'{name}.conv.weight'].transpose(2, 3, 1, 0)))
    for theirs, ours in (('gamma', 'weight'), ('beta', 'bias'),
                         ('moving_mean', 'running_mean'),
                         ('moving_variance', 'running_var')):
      nodes.append(tensorflow_files_test.constant_node(
          f'{scope}/batchnorm/{theirs}', state[f'{name}.bn.{ours}']))
  nodes.append(tensorflow_files_test.constant_node(
      'softmax/weights', state['fc.weight'].T))
  return b''.join(nodes)


class InceptionTest(absltest.TestCase):

  def test_both_files_give_the_same_parameters(self):
    state = random_state()
    with tempfile.TemporaryDirectory() as folder:
      graph = pathlib.Path(folder) / 'classify_image_graph_def.pb'
      graph.write_bytes(graph_bytes(state))
      torch = pathlib.Path(folder) / 'pt_inception.npz'
      np.savez(torch, **state)
      (a, info), (b, other) = inception.load(graph), inception.load(torch)
    self.assertEqual(info.name, other.name)
    self.assertNotEqual(info.sha256, other.sha256)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    shapes = jax.eval_shape(
        inception.features, a, jnp.zeros((2, 299, 299, 3)))
    self.assertEqual([s.shape for s in shapes],
                     [(2, 2048), (2, 2023), (2, 1008)])

  def test_other_networks_are_refused(self):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'weights.npz'
      np.savez(path, **random_state(classes=1000))
      with self.assertRaisesRegex(errors.UserError, '1000 classes'):
        inception.load(path)
      np.savez(path, **{'layer.weight': np.ones(3)})
      with self.assertRaisesRegex(errors.UserError, 'give the InceptionV3'):
        inception.load(path)
    with self.assertRaisesRegex(ValueError, '299'):
      inception.features({}, jnp.zeros((1, 224, 224, 3)))

  def test_averages_leave_the_padding_out(self):
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 2)).astype(np.float32)
    expected = np.zeros_like(x)
    for i in range(4):
      for j in range(5):
        expected[0, i, j] = x[0, max(i - 1, 0):i + 2,
                              max(j - 1, 0):j + 2].mean((0, 1))
    np.testing.assert_allclose(inception._average_pool(jnp.asarray(x)),
                               expected, atol=1e-6)


if __name__ == '__main__':
  absltest.main()
