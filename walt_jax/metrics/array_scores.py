"""Scores of arrays in memory; `walt evaluate` scores files and checkpoints."""
import os

import numpy as np

from walt_jax.metrics import feature_sets
from walt_jax.metrics import fvd as fvd_lib
from walt_jax.metrics import image_features
from walt_jax.metrics import protocols
from walt_jax.metrics import reconstruction
from walt_jax.metrics import scores

Path = str | os.PathLike[str]


def fvd(real: np.ndarray, generated: np.ndarray) -> float:
  """Frechet video distance of two sets of clips, 0 or more; lower is better.

  Both uint8 [N, T, H, W, 3], at least 10 frames. The value falls with the
  number of clips: compare only sets of one size. `metrics.fvd.fvd` gives the
  whole result, with network and preprocessing.

  Raises:
    ValueError: The arrays are no such clips.
  """
  _check_clips(real=real, generated=generated)
  return float(fvd_lib.fvd(real, generated)['value'])


def fid(real: np.ndarray, generated: np.ndarray, *, network: Path) -> float:
  """Frechet inception distance of two sets of images; lower is better.

  Args:
    real: uint8 [N, H, W, 3].
    generated: uint8 [M, H, W, 3].
    network: File of the InceptionV3 weights of 2015, which FID is defined by.

  Raises:
    ValueError: The arrays are no such images.
    UserError: The file holds other weights.
  """
  _check_images(real=real, generated=generated)
  inception = image_features.load_inception(os.fspath(network))
  sets = [feature_sets.collect(images[:, None], inception, label=label)
          for label, images in (('real', real), ('generated', generated))]
  options = scores.Options(protocols.get('quick'))
  return float(scores.frechet_result(
      'fid', sets[:1], sets[1:], options)['value'])


def reconstruction_scores(real: np.ndarray, other: np.ndarray
                          ) -> dict[str, float]:
  """Mean scores of pairs of clips, both uint8 [N, T, H, W, 3].

  Returns:
    psnr (dB, at most 100), ssim, perceptual (distance of EfficientNet-Lite0's
    features), perceptual_lite2 (of a network that trained nothing), flicker
    and l1 (shares of the pixel range).

  Raises:
    ValueError: The arrays are no such clips, or of unlike shapes.
  """
  _check_clips(real=real, other=other)
  return reconstruction.compare_clips(
      real, other, reconstruction.load_networks())


def _check_clips(**named: np.ndarray) -> None:
  _check('clips uint8 [N, T, H, W, 3]', 5, named)


def _check_images(**named: np.ndarray) -> None:
  _check('images uint8 [N, H, W, 3]', 4, named)


def _check(kind: str, rank: int, named: dict[str, np.ndarray]) -> None:
  for name, array in named.items():
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim != rank or array.shape[-1] != 3:
      raise ValueError(
          f'{name} must be {kind}, got {array.dtype} {array.shape}.')
