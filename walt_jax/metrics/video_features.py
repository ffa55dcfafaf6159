"""I3D over uint8 clips, preprocessed as the FVD protocols say."""
from collections.abc import Sequence
import functools
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.core import errors
from walt_jax.metrics import feature_network
from walt_jax.metrics import resizing
from walt_jax.pretrained import i3d

VideoNetwork = feature_network.FeatureNetwork

# FVD's reference code and MAGVIT: TensorFlow 1's bilinear resizing to 224.
PREPROCESSING = 'tf1-bilinear-224'
# MAGVIT's script for Kinetics-600: to 64 x 64 first, not rounded in between.
PREPROCESSING_64 = 'tf1-bilinear-64-224'
# StyleGAN-V: PyTorch's bilinear interpolation, which has half-pixel centres.
PREPROCESSING_TORCH = 'half-pixel-bilinear-224'
MIN_FRAMES = i3d.MIN_FRAMES  # Fewer cannot be scored.
PREPROCESSINGS = (PREPROCESSING, PREPROCESSING_64, PREPROCESSING_TORCH)

resize_tf1_bilinear = functools.partial(resizing.resize, grid='tf1')


def preprocess(clips: jax.Array, name: str = PREPROCESSING) -> jax.Array:
  """Maps uint8 [B, T, H, W, 3] to float32 [B, T, 224, 224, 3] in [-1, 1].

  No value is rounded on the way.
  """
  frames = clips.astype(jnp.float32)
  if name == PREPROCESSING_TORCH:
    frames = resizing.resize(frames, i3d.IMAGE_SIZE, grid='half-pixel')
  else:
    for size in _tf1_sizes(name):
      frames = resizing.resize(frames, size, grid='tf1')
  return frames * (2.0 / 255.0) - 1.0


def _tf1_sizes(name: str) -> list[int]:
  """The sizes of 'tf1-bilinear-64-224', or of any other first size."""
  if not re.fullmatch(r'tf1-bilinear(-[1-9]\d{0,3})?-224', name):
    raise errors.UserError(
        f'no preprocessing {name!r} of videos; choose one of '
        f'{", ".join(PREPROCESSINGS)}')
  return [int(size) for size in name.split('-')[2:]]


def scored_frames(num_frames: int, wanted: int | None = None) -> int:
  """How many first frames of a clip are scored.

  All, except that 17-frame models are scored on their first 16 frames, as
  the published protocols are (MAGVIT, W.A.L.T).
  """
  if wanted is not None:
    return wanted
  return 16 if num_frames == 17 else num_frames


def load_network(
    path: str | pathlib.Path | None = None, *,
    conv_form: i3d.ConvForm = 'stacked', batch_size: int = 1,
    devices: Sequence[Any] | None = None,
    preprocessing: str = PREPROCESSING) -> VideoNetwork:
  """Reads I3D.

  Args:
    path: Weight file, or None for the installed package's.
    conv_form: How its convolutions are carried out; 'stacked' is the faster
      one on CPUs.
    batch_size: Clips a device computes at once; 1 wastes nothing on a CPU.
    devices: Share the clips; None is JAX's default device.
    preprocessing: One of `PREPROCESSINGS`.
  """
  if preprocessing != PREPROCESSING_TORCH:
    _tf1_sizes(preprocessing)
  params, info = i3d.load(path)

  def apply(params, clips):
    logits = i3d.features(params, preprocess(clips, preprocessing),
                          conv_form=conv_form)
    return {feature_network.FEATURES: logits}

  return VideoNetwork(
      params, info, preprocessing, apply,
      {feature_network.FEATURES: i3d.NUM_FEATURES},
      min_frames=i3d.MIN_FRAMES, batch_size=batch_size, devices=devices)
