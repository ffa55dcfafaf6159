"""C3D fine-tuned on UCF-101, by which that set's Inception Score is defined.

Tran et al., arXiv 1412.0767; as an evaluation network Saito et al. (TGAN,
arXiv 1611.06624; TGAN-v2, 1811.09245). Its weights are the user's, by path:
TGAN's `conv3d_deepnetA_ucf.npz` with the mean clip `mean2.npz`, MAGVIT's
`c3d_ucf101.flax`, or a PyTorch state dictionary that has the mean clip as
`mean`. Everything is float32 exactly.
"""
from collections.abc import Sequence
import hashlib
import pathlib
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.pretrained import networks
from walt_jax.pretrained import reader

Params = dict[str, Any]

NAME = 'c3d-ucf101'
IMAGE_SIZE = 112
NUM_FRAMES = 16
NUM_CLASSES = 101

_CONVS = ('conv1a', 'conv2a', 'conv3a', 'conv3b', 'conv4a', 'conv4b',
          'conv5a', 'conv5b')
_DENSE = ('fc6', 'fc7', 'fc8')
# Pooling behind a convolution: (frames, rows, columns).
_POOL_BEHIND = {'conv1a': (1, 2, 2), 'conv2a': (2, 2, 2),
                'conv3b': (2, 2, 2), 'conv4b': (2, 2, 2), 'conv5b': (2, 2, 2)}
# TGAN cuts the mean clip's frames (128 x 171) there.
_MEAN_OFFSET = 8


def load(*paths: str | pathlib.Path) -> tuple[Params, networks.NetworkInfo]:
  """Reads the weights and the mean clip, of one file or of two.

  Returns:
    (params, info): float32 NumPy arrays, for `logits`.

  Raises:
    errors.UserError: Another file, or no mean clip.
  """
  arrays: dict[str, np.ndarray] = {}
  for path in paths:
    arrays |= reader.flatten(reader.read(path), '.')
  names = ','.join(map(str, paths))
  try:
    params = arrange(arrays)
  except (KeyError, ValueError) as error:
    raise errors.UserError(
        f'{names} is no C3D of UCF-101 with its mean clip '
        f'({error.args[0]}); give --network WEIGHTS,MEAN') from error
  digests = [reader.weights_sha256(path) for path in paths]
  sha256 = digests[0] if len(digests) == 1 else hashlib.sha256(
      ''.join(digests).encode()).hexdigest()
  return params, networks.NetworkInfo(NAME, 'path', sha256)


def arrange(arrays: dict[str, np.ndarray]) -> Params:
  """Turns the arrays of any of the files, by name, into our parameters."""
  params: Params = {}
  for name in (*_CONVS, *_DENSE):
    params[name] = _layer(arrays, name)
  if params['fc8']['kernel'].shape[1] != NUM_CLASSES:
    raise ValueError(f'{params["fc8"]["kernel"].shape[1]} classes, not '
                     f'{NUM_CLASSES}')
  params['offset'] = _offset(arrays)
  return params


def _layer(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """A kernel [.., I, O] and its bias."""
  for prefix in (f'params.{name}', name):
    if f'{prefix}.kernel' in arrays:  # Flax.
      return dict(kernel=np.asarray(arrays[f'{prefix}.kernel'], np.float32),
                  bias=np.asarray(arrays[f'{prefix}.bias'], np.float32))
  other = name[:-1] if name in ('conv1a', 'conv2a') else name
  for kernel, bias in ((f'{name}/W', f'{name}/b'),
                       (f'{name}.weight', f'{name}.bias'),
                       (f'{other}.weight', f'{other}.bias')):
    if kernel in arrays:  # Chainer and PyTorch: outputs first.
      value = np.asarray(arrays[kernel], np.float32)
      axes = (2, 3, 4, 1, 0) if value.ndim == 5 else (1, 0)
      return dict(kernel=np.ascontiguousarray(value.transpose(axes)),
                  bias=np.asarray(arrays[bias], np.float32))
  raise KeyError(f'no layer {name}')


def _offset(arrays: dict[str, np.ndarray]) -> np.ndarray:
  """What is added to BGR clips of 0..255: [16, 112, 112, 3]."""
  for name in ('params.x_offset', 'x_offset'):
    if name in arrays:
      return np.asarray(arrays[name], np.float32)
  if 'mean' not in arrays:
    raise KeyError('no mean clip')
  mean = np.asarray(arrays['mean'], np.float32)
  mean = mean.reshape(mean.shape[-4:])  # [3, 16, >= 120, >= 120]
  cut = slice(_MEAN_OFFSET, _MEAN_OFFSET + IMAGE_SIZE)
  return -mean[:, :, cut, cut].transpose(1, 2, 3, 0)


def logits(params: Params, clips: jax.Array) -> jax.Array:
  """Maps RGB clips [B, 16, 112, 112, 3] in 0..255 to logits [B, 101]."""
  if clips.shape[1:] != (NUM_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3):
    raise ValueError(f'C3D needs [B, 16, 112, 112, 3], got {clips.shape}.')
  x = clips.astype(jnp.float32)[..., ::-1] + params['offset']
  for name in _CONVS:
    x = _conv(x, params[name])
    if name in _POOL_BEHIND:
      # Odd extents keep their last row: the last map goes from 7 to 4.
      window = (1, *_POOL_BEHIND[name], 1)
      x = lax.reduce_window(x, -jnp.inf, lax.max, window, window,
                            _ceil_padding(x.shape, window))
  x = x.transpose(0, 4, 1, 2, 3).reshape(len(x), -1)
  for name in _DENSE:
    x = jnp.matmul(x, params[name]['kernel'],
                   precision=lax.Precision.HIGHEST) + params[name]['bias']
    if name != _DENSE[-1]:
      x = jax.nn.relu(x)
  return x


def _ceil_padding(shape: Sequence[int],
                  window: Sequence[int]) -> list[tuple[int, int]]:
  return [(0, -extent % size)
          for extent, size in zip(shape, window, strict=True)]


def _conv(x: jax.Array, params: Params) -> jax.Array:
  y = lax.conv_general_dilated(
      x, params['kernel'], (1, 1, 1), 'SAME',
      precision=lax.Precision.HIGHEST,
      dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'))
  return jax.nn.relu(y + params['bias'])
