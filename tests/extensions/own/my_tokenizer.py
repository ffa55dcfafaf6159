"""A tokenizer: one linear map of each 4 frames x 4 rows x 4 columns."""
from flax import linen as nn
import jax.numpy as jnp

from walt_jax.core import types


class Blocks(nn.Module):
  f_t, f_s, latent_channels = 4, 4, 4
  def setup(self):
    self.encoder, self.decoder = nn.Dense(4), nn.Dense(4 * 4 * 4 * 3)

  def latent_shape(self, shape):
    return shape[0], 1 + shape[1] // 4, shape[2] // 4, shape[3] // 4, 4

  def encode(self, x):
    b, t, h, w, _ = self.latent_shape(x.shape)
    x = jnp.concatenate([jnp.repeat(x[:, :1], 3, axis=1), x], axis=1)
    x = x.reshape(b, t, 4, h, 4, w, 4, 3).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return types.Posterior(mean=self.encoder(x.reshape(b, t, h, w, -1)))

  def decode(self, z):
    b, t, h, w, _ = z.shape
    x = self.decoder(z).reshape(b, t, h, w, 4, 4, 4, 3)
    x = x.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(b, 4 * t, 4 * h, 4 * w, 3)[:, 3:]

  def __call__(self, x):
    return self.decode(self.encode(x).mean), self.encode(x)
