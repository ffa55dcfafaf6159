"""The tokenizer, compiled: pixels to normalised latents and back, on host."""
import jax
import numpy as np

from walt_jax.core import pixels as pixels_lib
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics


class Codec:
  """Encodes and decodes batches of clips; one program a shape."""

  def __init__(self, tokenizer: inference.Tokenizer):
    """Takes the weights from the tokenizer with every call."""
    self._tokenizer = tokenizer
    module = tokenizer.module

    def encode(frozen, pixels):
      posterior = inference.encode_posterior(
          module, frozen['params'], pixels)
      return statistics.normalise(posterior.mean, frozen['statistics'])

    def decode(frozen, latents):
      return pixels_lib.to_uint8(inference.decode_pixels(
          module, frozen['params'], frozen['statistics'], latents))

    self._encode = jax.jit(encode)
    self._decode = jax.jit(decode)

  @property
  def f_s(self) -> int:
    """Pixels a latent cell, along rows and columns."""
    return self._tokenizer.module.f_s

  @property
  def f_t(self) -> int:
    """Frames a latent frame after the first."""
    return self._tokenizer.module.f_t

  def encode(self, pixels: np.ndarray) -> np.ndarray:
    """Maps uint8 [B, 1+T, H, W, 3] to normalised latents [B, 1+t, h, w, c]."""
    return np.asarray(self._encode(self._tokenizer.frozen, pixels))

  def decode(self, latents: np.ndarray) -> np.ndarray:
    """Maps normalised latents [B, 1+t, h, w, c] to uint8 [B, 1+T, H, W, 3]."""
    return np.asarray(self._decode(self._tokenizer.frozen, latents))
