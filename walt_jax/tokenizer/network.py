"""What a tokenizer's network is, be it ours or the user's own."""
from typing import Protocol

import jax

from walt_jax.core import types


class Network(Protocol):
  """A Linen module of two parts: its parameters are `encoder` and `decoder`.

  A class of the user's own is named by `model.name` and has no other key:
  every field has its default. Their leaves are called kernel, bias or scale,
  as those of Linen's layers are. Frames do not see later ones.

  Attributes:
    f_t: Frames of a clip to one latent frame; the first stands alone.
    f_s: Rows (and columns) of a frame to one latent cell.
    latent_channels: c.
  """
  f_t: int
  f_s: int
  latent_channels: int

  def latent_shape(self, pixel_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape [B, 1+t, h, w, c] of the latents of [B, 1+T, H, W, 3].

    Raises:
      ValueError: Such clips do not fit.
    """

  def encode(self, pixels: jax.Array) -> types.Posterior:
    """Maps pixels [B, 1+T, H, W, 3] in [-1, 1] to float32 latents."""

  def decode(self, latents: jax.Array) -> jax.Array:
    """Maps latents [B, 1+t, h, w, c] to float32 pixels [B, 1+T, H, W, 3]."""

  def __call__(self, pixels: jax.Array) -> tuple[jax.Array, types.Posterior]:
    """Returns the reconstruction (from the mean) and the posterior."""
