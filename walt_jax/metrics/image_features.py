"""Networks of FID, sFID and the Inception Score over uint8 images."""
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.core import errors
from walt_jax.metrics import feature_network
from walt_jax.metrics import resizing
from walt_jax.pretrained import c3d
from walt_jax.pretrained import efficientnet
from walt_jax.pretrained import inception

# The original FID and guided-diffusion's evaluator: the graph's own resizing,
# and (x - 128) / 128.
TF1_299 = 'tf1-bilinear-299'
# pytorch-fid: half-pixel centres, and 2 x / 255 - 1.
TORCH_299 = 'half-pixel-bilinear-299'
PREPROCESSINGS = (TF1_299, TORCH_299)
STAND_INS = tuple(efficientnet.VARIANTS)
CHAINER_112 = 'corner-bilinear-112'

_NUM_LITE_CLASSES = 1000


def load_inception(
    path: str, *, preprocessing: str = TF1_299, batch_size: int = 1,
    devices: Sequence[Any] | None = None) -> feature_network.FeatureNetwork:
  """InceptionV3 of 2015 from the user's file; images of any one size."""
  if preprocessing not in PREPROCESSINGS:
    raise errors.UserError(
        f'no preprocessing {preprocessing!r} of images; choose one of '
        f'{", ".join(PREPROCESSINGS)}')
  params, info = inception.load(path)

  def apply(params, clips):
    images = _images(clips)
    if preprocessing == TF1_299:
      pixels = (resizing.resize(images, 299, grid='tf1') - 128.0) / 128.0
    else:
      pixels = resizing.resize(
          images / 255.0, 299, grid='half-pixel') * 2.0 - 1.0
    found = inception.features(params, pixels)
    return {feature_network.FEATURES: found.pooled,
            feature_network.SPATIAL: found.spatial,
            feature_network.LOGITS: found.logits}

  return feature_network.FeatureNetwork(
      params, info, preprocessing, apply,
      {feature_network.FEATURES: inception.NUM_POOLED,
       feature_network.SPATIAL: inception.NUM_SPATIAL,
       feature_network.LOGITS: inception.NUM_CLASSES},
      kind='image', num_frames=1, batch_size=batch_size, devices=devices)


def load_efficientnet(
    *, name: str = efficientnet.LITE0, batch_size: int = 1,
    devices: Sequence[Any] | None = None) -> feature_network.FeatureNetwork:
  """The offline stand-in; scores from it carry its name.

  Args:
    name: One of `STAND_INS`; Lite2 judges what Lite0 trained.
    batch_size: Images a device computes at once.
    devices: Share the images; None is JAX's default device.
  """
  params, info = efficientnet.load(name=name)
  size = efficientnet.VARIANTS[name].image_size

  def apply(params, clips):
    images = resizing.resize(_images(clips), size,
                             grid='half-pixel') * (2.0 / 255.0) - 1.0
    pooled = efficientnet.pooled(params, images)
    last = params['logits']
    logits = jnp.matmul(pooled, last['kernel'],
                        precision=jax.lax.Precision.HIGHEST) + last['bias']
    return {feature_network.FEATURES: pooled, feature_network.LOGITS: logits}

  return feature_network.FeatureNetwork(
      params, info, f'half-pixel-bilinear-{size}', apply,
      {feature_network.FEATURES: efficientnet.NUM_POOLED,
       feature_network.LOGITS: _NUM_LITE_CLASSES},
      kind='image', num_frames=1, batch_size=batch_size, devices=devices)


def load_c3d(
    *paths: str, batch_size: int = 1, devices: Sequence[Any] | None = None
) -> feature_network.FeatureNetwork:
  """C3D of UCF-101 from the user's file(s); clips of 16 frames."""
  params, info = c3d.load(*paths)

  def apply(params, clips):
    pixels = resizing.resize(clips.astype(jnp.float32), c3d.IMAGE_SIZE,
                             grid='corners')
    logits = c3d.logits(params, pixels)
    return {feature_network.FEATURES: logits, feature_network.LOGITS: logits}

  return feature_network.FeatureNetwork(
      params, info, CHAINER_112, apply,
      {feature_network.FEATURES: c3d.NUM_CLASSES,
       feature_network.LOGITS: c3d.NUM_CLASSES},
      min_frames=c3d.NUM_FRAMES, num_frames=c3d.NUM_FRAMES,
      batch_size=batch_size, devices=devices)


def _images(clips: jax.Array) -> jax.Array:
  """The one frame of each clip [B, 1, H, W, 3], as float."""
  return clips[:, 0].astype(jnp.float32)
