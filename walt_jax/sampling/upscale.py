"""Super-resolution of real clips whose true high resolution is known."""
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import pixels as pixels_lib
from walt_jax.sampling import cascade
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib


def low_resolution(clips: np.ndarray, factor: int) -> np.ndarray:
  """Antialiased downsampling of uint8 [N, T, H, W, 3] by a whole factor."""
  pixels = pixels_lib.to_unit_range(jnp.asarray(clips))
  return np.asarray(pixels_lib.to_uint8(
      pixels_lib.downsample(pixels, factor)))


def bilinear(clips: np.ndarray, factor: int) -> np.ndarray:
  """Bilinear upsampling of uint8 [N, T, H, W, 3]: what a stage must beat."""
  n, t, h, w, c = clips.shape
  pixels = jax.image.resize(
      jnp.asarray(clips, jnp.float32), (n, t, h * factor, w * factor, c),
      'linear')
  return np.asarray(jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8))


def upscale(pipeline: pipeline_lib.Pipeline, low: np.ndarray,
            requests: Sequence[requests_lib.Request],
            settings: pipeline_lib.StageSettings, *,
            batch_size: int) -> np.ndarray:
  """Runs one super-resolution stage on true low-resolution clips.

  Args:
    pipeline: Loaded with `low_res_given`; its first stage is used.
    low: uint8 [N, T, H/f, W/f, 3].
    requests: Label and caption of each clip.
    settings: Sampler, guidance and noise level.
    batch_size: Clips at once.

  Returns:
    uint8 [N, T, H, W, 3].
  """
  latents = np.concatenate([
      pipeline.codec.encode(low[i:i + 1]) for i in range(len(low))])
  output = cascade.run_stage(
      pipeline, 0, requests, settings, low_res=latents[:, None],
      batch_size=batch_size)
  return np.stack(list(cascade.decode(pipeline, output, batch_size)))
