"""LPIPS, learned perceptual distances of images (arXiv 1801.03924), v0.1.

The backbone (AlexNet or VGG16, trained on ImageNet) is the user's file, as
torchvision publishes it; the linear heads are those of the package `lpips`, or
a file. Everything is float32 exactly. Pure functions of `params`.
"""
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

_REQUIREMENT = 'lpips==0.1.4'
_HEADS_SHA256 = {
    'alex':
        'df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0',
    'vgg':
        'a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868'}
# (number in torchvision's `features`, stride, padding) of each convolution;
# None: max pooling. A tap follows where the list is cut.
_Layers = tuple[tuple[tuple[int, int, int] | None, ...], ...]
_BACKBONES: dict[str, _Layers] = {
    'alex': (((0, 4, 2),), (None, (3, 1, 2)), (None, (6, 1, 1)),
             ((8, 1, 1),), ((10, 1, 1),)),
    'vgg': (((0, 1, 1), (2, 1, 1)), (None, (5, 1, 1), (7, 1, 1)),
            (None, (10, 1, 1), (12, 1, 1), (14, 1, 1)),
            (None, (17, 1, 1), (19, 1, 1), (21, 1, 1)),
            (None, (24, 1, 1), (26, 1, 1), (28, 1, 1)))}
# Window and stride of max pooling.
_POOL = {'alex': (3, 2), 'vgg': (2, 2)}
_FIRST_KERNEL = {11: 'alex', 3: 'vgg'}
# From pixels in [-1, 1] to the backbones' input, ImageNet's mean and deviation.
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)
_EPSILON = 1e-10
MIN_SIZE = 32  # Smaller images leave AlexNet's last maps empty.


def load(backbone: str | pathlib.Path, heads: str | pathlib.Path | None = None
         ) -> tuple[Params, networks.NetworkInfo]:
  """Reads a backbone and the heads that belong to it.

  Args:
    backbone: Torchvision's state dictionary of AlexNet or VGG16.
    heads: State dictionary of the heads; None: the installed package's,
      checked by its sha256.

  Returns:
    (params, info): float32 NumPy arrays, for `distance`.

  Raises:
    errors.UserError: Another file, or the package is not installed.
  """
  state = reader.read(backbone)
  first = state.get('features.0.weight')
  name = _FIRST_KERNEL.get(np.shape(first)[-1] if first is not None else 0)
  if name is None:
    raise errors.UserError(
        f'{backbone} is no AlexNet or VGG16 of torchvision; give its state '
        'dictionary to --lpips')
  expected = None
  if heads is None:
    expected = _HEADS_SHA256[name]
    heads = reader.package_file(
        'lpips', f'weights/v0.1/{name}.pth', _REQUIREMENT)
  head_state = reader.read(heads, sha256=expected)
  layers = [layer for part in _BACKBONES[name] for layer in part if layer]
  try:
    params: Params = {
        f'conv_{number:02d}': dict(
            kernel=np.ascontiguousarray(np.asarray(
                state[f'features.{number}.weight'], np.float32
            ).transpose(2, 3, 1, 0)),
            bias=np.asarray(state[f'features.{number}.bias'], np.float32))
        for number, _, _ in layers}
    for tap in range(len(_BACKBONES[name])):
      head = head_state[f'lin{tap}.model.1.weight']
      params[f'head_{tap}'] = np.asarray(head, np.float32).reshape(-1)
  except KeyError as error:
    raise errors.UserError(
        f'{backbone} or {heads} has no {error.args[0]}; give the whole state '
        f'dictionary of LPIPS ({name})') from error
  digest = hashlib.sha256(''.join(
      map(reader.weights_sha256, (backbone, heads))).encode()).hexdigest()
  return params, networks.NetworkInfo(f'lpips-{name}-v0.1', 'path', digest)


def distance(params: Params, a: jax.Array, b: jax.Array) -> jax.Array:
  """Distances [N] of images [N, H, W, 3] in [-1, 1], sides of 32 or more."""
  if min(a.shape[1:3]) < MIN_SIZE:
    raise ValueError(f'LPIPS needs frames of {MIN_SIZE} pixels, got {a.shape}.')
  total: Any = 0.0
  for tap, (x, y) in enumerate(zip(_taps(params, a), _taps(params, b),
                                   strict=True)):
    gaps = jnp.square(_unit(x) - _unit(y))
    total += jnp.matmul(gaps, params[f'head_{tap}'],
                        precision=lax.Precision.HIGHEST).mean(axis=(1, 2))
  return total


def _taps(params: Params, images: jax.Array) -> list[jax.Array]:
  name = 'alex' if len(params['conv_00']['kernel']) == 11 else 'vgg'
  x = (images.astype(jnp.float32) - _SHIFT) / _SCALE
  window, step = _POOL[name]
  found = []
  for part in _BACKBONES[name]:
    for layer in part:
      if layer is None:
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1),
                              (1, step, step, 1), 'VALID')
        continue
      number, stride, padding = layer
      conv = params[f'conv_{number:02d}']
      x = jax.nn.relu(conv['bias'] + lax.conv_general_dilated(
          x, conv['kernel'], (stride, stride), ((padding, padding),) * 2,
          precision=lax.Precision.HIGHEST,
          dimension_numbers=('NHWC', 'HWIO', 'NHWC')))
    found.append(x)
  return found


def _unit(x: jax.Array) -> jax.Array:
  """Scales feature vectors to unit length; zeros stay zeros."""
  # The derivative of the root is not needed; its value at zero is.
  length = jnp.sqrt(jnp.square(x).sum(-1, keepdims=True))
  return x / (length + _EPSILON)
