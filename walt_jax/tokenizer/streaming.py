"""Clips of any length in chunks, equal to the whole and in constant memory.

Every causal operator of the autoencoder remembers the few frames that its
next output needs (collection `stream`), so a chunk costs what it costs,
whatever came before.
"""
from collections.abc import Callable, Iterable, Iterator
import functools
from typing import Any

import jax
import numpy as np

from walt_jax.core import pixels as pixels_lib
from walt_jax.core import types
from walt_jax.tokenizer import autoencoder as autoencoder_lib

Params = Any
Step = Callable[[Params, Any, jax.Array], tuple[Any, Any]]
_FRAMES_RANK = 5


def make_step(module: autoencoder_lib.Autoencoder, method: str,
              frames: jax.sharding.Sharding | None = None) -> Step:
  """Jits `step(params, memory, chunk) -> (output, memory)` of one method.

  Args:
    module: The network.
    method: 'encode' or 'decode'.
    frames: How arrays [B, T, H, W, C] lie on devices, those remembered too.

  Returns:
    The step; `memory` is None for the first chunk and what the last call
    returned for every other. Chunks of 'encode' are pixels [B, T, H, W, 3],
    uint8 or in [-1, 1], with T = 1 + n f_t at the start of the clip and
    n f_t later; chunks of 'decode' are latents [B, n, h, w, c].
  """
  def cut(array):
    if frames is None or array.ndim != _FRAMES_RANK:
      return array
    return jax.lax.with_sharding_constraint(array, frames)

  @functools.partial(jax.jit, donate_argnums=1)
  def step(params, memory, chunk):
    variables = {'params': params} | (
        {} if memory is None else {'stream': memory})
    if method == 'encode':
      chunk = pixels_lib.to_unit_range(chunk)
    output, state = module.apply(variables, chunk, method=method,
                                 mutable=['stream'])
    return jax.tree.map(cut, (output, state['stream']))

  return step


def run(step: Step, params: Params, chunks: Iterable[Any]) -> Iterator[Any]:
  """Yields the output of each chunk of one clip, as NumPy arrays."""
  memory = None
  for chunk in chunks:
    output, memory = step(params, memory, chunk)
    yield jax.tree.map(np.asarray, output)


def padded_length(num_frames: int, f_t: int) -> int:
  """The next length 1 + n f_t that a clip can be encoded at."""
  return 1 + -(-(num_frames - 1) // f_t) * f_t


def pad_frames(pixels: np.ndarray, f_t: int) -> np.ndarray:
  """Repeats the last frame of [B, T, H, W, 3] up to `padded_length`."""
  missing = padded_length(pixels.shape[1], f_t) - pixels.shape[1]
  return np.concatenate(
      [pixels, np.repeat(pixels[:, -1:], missing, axis=1)], axis=1)


def frame_chunks(pixels: np.ndarray, f_t: int,
                 latent_frames: int) -> Iterator[np.ndarray]:
  """Cuts [B, 1+T, H, W, 3] into chunks of `latent_frames` latents each."""
  if (pixels.shape[1] - 1) % f_t:
    raise ValueError(
        f'{pixels.shape[1]} frames are not 1 + a multiple of {f_t}; pad them '
        'by `pad_frames`.')
  first = 1 + (latent_frames - 1) * f_t
  yield pixels[:, :first]
  for start in range(first, pixels.shape[1], latent_frames * f_t):
    yield pixels[:, start:start + latent_frames * f_t]


def encode(step: Step, params: Params, pixels: np.ndarray, *, f_t: int,
           latent_frames: int = 1) -> types.Posterior:
  """Encodes clips [B, T, H, W, 3] of any length T, chunk by chunk.

  Args:
    step: `make_step(module, 'encode')`, kept for further clips.
    params: Parameters of the autoencoder.
    pixels: uint8 or in [-1, 1]; where T is not 1 + n f_t the last frame is
      repeated, and `decode` told T drops what that adds.
    f_t: Temporal compression of the autoencoder.
    latent_frames: Latent frames a chunk.
  """
  chunks = frame_chunks(pad_frames(pixels, f_t), f_t, latent_frames)
  return jax.tree.map(lambda *x: np.concatenate(x, axis=1),
                      *run(step, params, chunks))


def decode(step: Step, params: Params, latents: np.ndarray, *,
           num_frames: int | None = None,
           latent_frames: int = 1) -> np.ndarray:
  """Decodes latents [B, 1+t, h, w, c], as they came from `encode`.

  Args:
    step: `make_step(module, 'decode')`.
    params: Parameters of the autoencoder.
    latents: Not normalised.
    num_frames: Frames to keep; None keeps all.
    latent_frames: Latent frames a chunk.

  Returns:
    Pixels float32 [B, num_frames, H, W, 3].
  """
  chunks = (latents[:, start:start + latent_frames]
            for start in range(0, latents.shape[1], latent_frames))
  pixels = np.concatenate(list(run(step, params, chunks)), axis=1)
  return pixels[:, :num_frames]
