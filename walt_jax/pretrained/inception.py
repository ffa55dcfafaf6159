"""InceptionV3 of December 2015, by which FID and the Inception Score are
defined (Szegedy et al., arXiv 1512.00567; Heusel et al., arXiv 1706.08500).

Its weights are the user's, by path: TensorFlow's frozen graph
(`classify_image_graph_def.pb`) or its common PyTorch port
(`pt_inception-2015-12-05-*.pth`). It is not torchvision's InceptionV3: the
pooling branches leave padding out of their averages, the last block takes a
maximum, and there are 1,008 classes. Batch norms are folded into the
convolutions at load. Everything is float32 exactly.
"""
import pathlib
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.pretrained import networks
from walt_jax.pretrained import reader

Params = dict[str, Any]

NAME = 'inception-v3-2015-12-05'
IMAGE_SIZE = 299
NUM_POOLED = 2048
NUM_CLASSES = 1008
# sFID's features: 7 channels of a 17 x 17 map (Nash et al., 2103.03841).
SPATIAL_CHANNELS = 7
NUM_SPATIAL = 17 * 17 * SPATIAL_CHANNELS

_BATCH_NORM_EPSILON = 1e-3

# The units of each kind of block -> their scopes in the TensorFlow graph.
_STEM = {'Conv2d_1a_3x3': 'conv', 'Conv2d_2a_3x3': 'conv_1',
         'Conv2d_2b_3x3': 'conv_2', 'Conv2d_3b_1x1': 'conv_3',
         'Conv2d_4a_3x3': 'conv_4'}
_A = {'branch1x1': 'conv', 'branch5x5_1': 'tower/conv',
      'branch5x5_2': 'tower/conv_1', 'branch3x3dbl_1': 'tower_1/conv',
      'branch3x3dbl_2': 'tower_1/conv_1', 'branch3x3dbl_3': 'tower_1/conv_2',
      'branch_pool': 'tower_2/conv'}
_B = {'branch3x3': 'conv', 'branch3x3dbl_1': 'tower/conv',
      'branch3x3dbl_2': 'tower/conv_1', 'branch3x3dbl_3': 'tower/conv_2'}
_C = {'branch1x1': 'conv', 'branch7x7_1': 'tower/conv',
      'branch7x7_2': 'tower/conv_1', 'branch7x7_3': 'tower/conv_2',
      'branch7x7dbl_1': 'tower_1/conv', 'branch7x7dbl_2': 'tower_1/conv_1',
      'branch7x7dbl_3': 'tower_1/conv_2', 'branch7x7dbl_4': 'tower_1/conv_3',
      'branch7x7dbl_5': 'tower_1/conv_4', 'branch_pool': 'tower_2/conv'}
_D = {'branch3x3_1': 'tower/conv', 'branch3x3_2': 'tower/conv_1',
      'branch7x7x3_1': 'tower_1/conv', 'branch7x7x3_2': 'tower_1/conv_1',
      'branch7x7x3_3': 'tower_1/conv_2', 'branch7x7x3_4': 'tower_1/conv_3'}
_E = {'branch1x1': 'conv', 'branch3x3_1': 'tower/conv',
      'branch3x3_2a': 'tower/mixed/conv', 'branch3x3_2b': 'tower/mixed/conv_1',
      'branch3x3dbl_1': 'tower_1/conv', 'branch3x3dbl_2': 'tower_1/conv_1',
      'branch3x3dbl_3a': 'tower_1/mixed/conv',
      'branch3x3dbl_3b': 'tower_1/mixed/conv_1',
      'branch_pool': 'tower_2/conv'}
# Block -> (its scope in the graph, its units), in order.
_BLOCKS = {
    'Mixed_5b': ('mixed', _A), 'Mixed_5c': ('mixed_1', _A),
    'Mixed_5d': ('mixed_2', _A), 'Mixed_6a': ('mixed_3', _B),
    'Mixed_6b': ('mixed_4', _C), 'Mixed_6c': ('mixed_5', _C),
    'Mixed_6d': ('mixed_6', _C), 'Mixed_6e': ('mixed_7', _C),
    'Mixed_7a': ('mixed_8', _D), 'Mixed_7b': ('mixed_9', _E),
    'Mixed_7c': ('mixed_10', _E)}


class Features(NamedTuple):
  """What the network says of images.

  Attributes:
    pooled: [B, 2048], of FID.
    spatial: [B, 2023], of sFID.
    logits: [B, 1008], of the Inception Score: without the last bias, as the
      original score and guided-diffusion's evaluator take them.
  """
  pooled: jax.Array
  spatial: jax.Array
  logits: jax.Array


def load(path: str | pathlib.Path) -> tuple[Params, networks.NetworkInfo]:
  """Reads the weights; batch norms come folded into the convolutions.

  Args:
    path: TensorFlow's frozen graph or the PyTorch port's state dictionary.

  Returns:
    (params, info): float32 NumPy arrays, for `features`.

  Raises:
    errors.UserError: Another file, such as torchvision's weights.
  """
  arrays = reader.flatten(reader.read(path), '.')
  try:
    params = fold(arrays)
  except KeyError as error:
    raise errors.UserError(
        f'{path} has no {error.args[0]}; give the InceptionV3 of 2015-12-05 '
        '(classify_image_graph_def.pb or pt_inception-2015-12-05-*.pth)'
    ) from error
  classes = params['logits'].shape[1]
  if classes != NUM_CLASSES:
    raise errors.UserError(
        f'{path} knows {classes} classes, not {NUM_CLASSES}: it is another '
        'InceptionV3 (torchvision has one), whose scores are not FID; give '
        "that of 2015-12-05, such as pytorch-fid's")
  return params, networks.NetworkInfo(NAME, 'path', reader.weights_sha256(path))


def fold(arrays: dict[str, np.ndarray]) -> Params:
  """Turns the arrays of either file, by name, into our parameters."""
  is_graph = 'mixed/conv/conv2d_params' in arrays
  params: Params = {
      name: _unit(arrays, scope if is_graph else name, is_graph)
      for name, scope in _STEM.items()}
  for block, (scope, units) in _BLOCKS.items():
    params[block] = {
        unit: _unit(arrays, f'{scope}/{where}' if is_graph
                    else f'{block}.{unit}', is_graph)
        for unit, where in units.items()}
  last = (arrays['softmax/weights'] if is_graph
          else np.asarray(arrays['fc.weight']).T)
  params['logits'] = np.ascontiguousarray(last, np.float32)
  return params


def _unit(arrays: dict[str, np.ndarray], name: str,
          is_graph: bool) -> dict[str, np.ndarray]:
  """A convolution with the batch norm behind it folded in."""

  def get(key: str) -> np.ndarray:
    return np.asarray(arrays[f'{name}{key}'], np.float64)

  if is_graph:
    kernel, norm = get('/conv2d_params'), '/batchnorm/'
    gain, shift = get(f'{norm}gamma'), get(f'{norm}beta')
    mean, var = get(f'{norm}moving_mean'), get(f'{norm}moving_variance')
  else:
    kernel = get('.conv.weight').transpose(2, 3, 1, 0)
    gain, shift = get('.bn.weight'), get('.bn.bias')
    mean, var = get('.bn.running_mean'), get('.bn.running_var')
  scale = gain / np.sqrt(var + _BATCH_NORM_EPSILON)
  return dict(kernel=(kernel * scale).astype(np.float32),
              bias=(shift - mean * scale).astype(np.float32))


def features(params: Params, images: jax.Array) -> Features:
  """Features of images [B, 299, 299, 3] in [-1, 1], float32."""
  if images.ndim != 4 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
    raise ValueError(f'Inception needs [B, 299, 299, 3], got {images.shape}.')
  x = images.astype(jnp.float32)
  x = _conv(x, params['Conv2d_1a_3x3'], 2, 'VALID')
  x = _conv(x, params['Conv2d_2a_3x3'], 1, 'VALID')
  x = _conv(x, params['Conv2d_2b_3x3'])
  x = _max_pool(x, 2, 'VALID')
  x = _conv(x, params['Conv2d_3b_1x1'])
  x = _conv(x, params['Conv2d_4a_3x3'], 1, 'VALID')
  x = _max_pool(x, 2, 'VALID')
  for block in ('Mixed_5b', 'Mixed_5c', 'Mixed_5d'):
    x = _block_a(x, params[block])
  x = _block_b(x, params['Mixed_6a'])
  spatial = x
  for block in ('Mixed_6b', 'Mixed_6c', 'Mixed_6d', 'Mixed_6e'):
    if block == 'Mixed_6d':
      spatial = _conv(x, params[block]['branch1x1'])
    x = _block_c(x, params[block])
  x = _block_d(x, params['Mixed_7a'])
  x = _block_e(x, params['Mixed_7b'], _average_pool)
  x = _block_e(x, params['Mixed_7c'], lambda y: _max_pool(y, 1, 'SAME'))
  pooled = jnp.mean(x, axis=(1, 2))
  logits = jnp.matmul(pooled, params['logits'],
                      precision=lax.Precision.HIGHEST)
  spatial = spatial[..., :SPATIAL_CHANNELS].reshape(len(images), -1)
  return Features(pooled, spatial, logits)


def _block_a(x: jax.Array, params: Params) -> jax.Array:
  wide = _chain(x, params, 'branch5x5_1', 'branch5x5_2')
  double = _chain(x, params, 'branch3x3dbl_1', 'branch3x3dbl_2',
                  'branch3x3dbl_3')
  return _join(_conv(x, params['branch1x1']), wide, double,
               _conv(_average_pool(x), params['branch_pool']))


def _block_b(x: jax.Array, params: Params) -> jax.Array:
  double = _chain(x, params, 'branch3x3dbl_1', 'branch3x3dbl_2')
  return _join(_conv(x, params['branch3x3'], 2, 'VALID'),
               _conv(double, params['branch3x3dbl_3'], 2, 'VALID'),
               _max_pool(x, 2, 'VALID'))


def _block_c(x: jax.Array, params: Params) -> jax.Array:
  once = _chain(x, params, *(f'branch7x7_{i}' for i in (1, 2, 3)))
  twice = _chain(x, params, *(f'branch7x7dbl_{i}' for i in (1, 2, 3, 4, 5)))
  return _join(_conv(x, params['branch1x1']), once, twice,
               _conv(_average_pool(x), params['branch_pool']))


def _block_d(x: jax.Array, params: Params) -> jax.Array:
  small = _chain(x, params, 'branch3x3_1')
  large = _chain(x, params, *(f'branch7x7x3_{i}' for i in (1, 2, 3)))
  return _join(_conv(small, params['branch3x3_2'], 2, 'VALID'),
               _conv(large, params['branch7x7x3_4'], 2, 'VALID'),
               _max_pool(x, 2, 'VALID'))


def _block_e(x: jax.Array, params: Params, pool) -> jax.Array:
  small = _conv(x, params['branch3x3_1'])
  double = _chain(x, params, 'branch3x3dbl_1', 'branch3x3dbl_2')
  return _join(
      _conv(x, params['branch1x1']),
      _conv(small, params['branch3x3_2a']),
      _conv(small, params['branch3x3_2b']),
      _conv(double, params['branch3x3dbl_3a']),
      _conv(double, params['branch3x3dbl_3b']),
      _conv(pool(x), params['branch_pool']))


def _join(*branches: jax.Array) -> jax.Array:
  return jnp.concatenate(branches, axis=-1)


def _chain(x: jax.Array, params: Params, *names: str) -> jax.Array:
  for name in names:
    x = _conv(x, params[name])
  return x


def _conv(x: jax.Array, params: Params, stride: int = 1,
          padding: str = 'SAME') -> jax.Array:
  y = lax.conv_general_dilated(
      x, params['kernel'], (stride, stride), padding,
      precision=lax.Precision.HIGHEST,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  return jax.nn.relu(y + params['bias'])


def _max_pool(x: jax.Array, stride: int, padding: str) -> jax.Array:
  return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1),
                           (1, stride, stride, 1), padding)


def _average_pool(x: jax.Array) -> jax.Array:
  """Averages over 3 x 3 windows, of the cells that lie inside the map."""
  sums = lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), 'SAME')
  # Windows at the border hold 2 of 3 rows or columns.
  counts = [np.convolve(np.ones(extent), np.ones(3), 'same')
            for extent in x.shape[1:3]]
  return sums / jnp.asarray(np.outer(*counts)[None, :, :, None], x.dtype)
