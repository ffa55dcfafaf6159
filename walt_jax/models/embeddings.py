"""Embeddings of time and position (section 4.2)."""
from flax import linen as nn
import jax
import jax.numpy as jnp

from walt_jax.models import modulation

NUM_FREQUENCIES = 256  # Width of the sinusoidal features, as in DiT.
MAX_PERIOD = 10_000.0
TIME_UNITS = 1000.0  # Timesteps in (0, 1] are spread over 1000 units.
LABEL_INIT = nn.initializers.normal(1.0)


def sinusoidal_features(
    timestep: jax.Array, num_features: int = NUM_FREQUENCIES) -> jax.Array:
  """Cosines and sines [..., num_features] of timesteps [...] in [0, 1]."""
  half = num_features // 2
  rates = jnp.exp(-jnp.log(MAX_PERIOD) * jnp.arange(half) / half)
  angle = TIME_UNITS * timestep[..., None].astype(jnp.float32) * rates
  return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class TimestepEmbedding(nn.Module):
  """Sinusoidal features through a two-layer MLP; float32.

  Attributes:
    width: D.
  """
  width: int

  @nn.compact
  def __call__(self, timestep: jax.Array) -> jax.Array:
    """Maps timesteps [B, F] in [0, 1] to [B, F, D]."""
    x = sinusoidal_features(timestep)
    # Variance-preserving: condition and time must be of order 1 at any width,
    # or the zero-initialised modulations learn from them too slowly.
    x = modulation.on_rows(nn.Dense(self.width, name='dense_in')(x))
    return modulation.on_rows(
        nn.Dense(self.width, name='dense_hidden')(nn.silu(x)))


class PositionEmbedding(nn.Module):
  """The sum of a learned space table and a learned time table.

  The images of an image row all take the time embedding of the first frame.

  Attributes:
    init_scale: Standard deviation of the tables at the start.
  """
  init_scale: float = 0.02

  @nn.compact
  def __call__(self, x: jax.Array, is_image: jax.Array | None) -> jax.Array:
    """Adds the embeddings to tokens [B, T, H, W, D]; `is_image` bool [B]."""
    _, t, h, w, d = x.shape
    init = nn.initializers.normal(self.init_scale)
    space = self.param('space', init, (h, w, d))
    time = self.param('time', init, (t, d))
    table = time[None]
    if is_image is not None:
      table = jnp.where(is_image[:, None, None], time[:1], time)
    return x + (space + table[:, :, None, None]).astype(x.dtype)
