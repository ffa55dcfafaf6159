"""Upscaling of the low-resolution latents that condition a stage (sec. 4.5)."""
from flax import linen as nn
import jax

from walt_jax.models import modulation
from walt_jax.models import windows


class LatentUpscaler(nn.Module):
  """A depth-to-space convolution, each latent frame on its own.

  Attributes:
    factor: Factor by which rows and columns grow.
  """
  factor: int

  @nn.compact
  def __call__(self, low_res: jax.Array) -> jax.Array:
    """Maps [B, 1+t, h/f, w/f, c] to [B, 1+t, h, w, c], float32."""
    b, t, h, w, c = low_res.shape
    x = modulation.on_rows(nn.Conv(
        c * self.factor ** 2, (3, 3), name='conv')(modulation.on_rows(
            low_res.reshape(b * t, h, w, c))))
    x = windows.unpatchify(x[:, None], self.factor)
    return x.reshape(b, t, h * self.factor, w * self.factor, c)
