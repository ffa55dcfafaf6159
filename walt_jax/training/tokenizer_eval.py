"""Held-out scores of a tokenizer, and a picture of what it reconstructs."""
from typing import Any

import jax.numpy as jnp
import numpy as np

from walt_jax.core import distances
from walt_jax.core import pixels as pixels_lib
from walt_jax.core import types
from walt_jax.media import contact_sheet
from walt_jax.parallel import multihost
from walt_jax.parallel import programs
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.training import state as train_state
from walt_jax.training import tokenizer_step

_NAMES = {'videos': 'psnr', 'images': 'image_psnr'}


def names(*, videos: bool, images: bool) -> set[str]:
  """Names of the scores that evaluations of such batches give."""
  given = dict(videos=videos, images=images)
  return {name for kind, name in _NAMES.items() if given[kind]}


class TokenizerEvaluation:
  """Held-out PSNR and perceptual picture of an EMA tokenizer."""

  def __init__(self, module: autoencoder_lib.Autoencoder,
               batches: list[types.Batch], num_samples: int):
    self._batches = batches
    self._num_samples = num_samples

    def reconstruct(params, batch):
      clips = tokenizer_step.clips_of(batch)
      # Before rounding to 8 bits, which `walt evaluate reconstruction` scores:
      # at 30 dB that is worth 0.006 dB.
      decoded = {
          kind: jnp.clip(module.apply({'params': params}, pixels)[0], -1.0, 1.0)
          for kind, pixels in clips.items()}
      psnr = {kind: distances.psnr(decoded[kind], pixels, peak=2.0)
              for kind, pixels in clips.items()}
      return psnr, {k: pixels_lib.to_uint8(v) for k, v in decoded.items()}

    self._reconstruct = programs.Program(reconstruct)

  def __call__(self, state, frozen, key):
    del frozen, key
    params = best_params(state)
    scores: dict[str, list[np.ndarray]] = {}
    images: dict[str, np.ndarray] = {}
    for batch in self._batches:
      psnr, decoded = self._reconstruct(params, batch)
      for kind, values in psnr.items():
        scores.setdefault(kind, []).append(float(values.mean()))
      if not images and self._num_samples and batch.videos is not None:
        images = {'reconstructions': self._sheet(batch, decoded['videos'])}
    return {_NAMES[k]: float(np.mean(v)) for k, v in scores.items()}, images

  def _sheet(self, batch, decoded) -> np.ndarray:
    """Real clips, each above its reconstruction."""
    # Of all processes: rows may lie on other hosts.
    real, decoded = multihost.fetch(
        (batch.videos.pixels[:self._num_samples],
         decoded[:self._num_samples]))
    clips = [clip for pair in zip(real, decoded, strict=True) for clip in pair]
    names = ['real', 'reconstruction'] * len(real)
    return contact_sheet.contact_sheet(clips, names)


def best_params(state: train_state.TrainState) -> Any:
  """The autoencoder's average of the longest memory, or its parameters."""
  return train_state.averaged(state.ema, state.params['autoencoder'])
