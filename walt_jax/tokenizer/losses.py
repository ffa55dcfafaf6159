"""Losses of the tokenizer: reconstruction, perceptual, KL and adversarial.

As in VQ-GAN, with MAGVIT-v2's LeCam regularisation. Networks are passed in as
functions; nothing here has parameters of its own.
"""
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from walt_jax.core import distances
from walt_jax.core import types

# Maps images [N, H, W, 3] in [-1, 1] to feature maps [N, h, w, C].
FeatureFn = Callable[[jax.Array], Sequence[jax.Array]]
RECONSTRUCTIONS = ('l1', 'l2')
ADVERSARIAL = ('hinge', 'non_saturating')


def reconstruction(decoded: jax.Array, pixels: jax.Array,
                   kind: str = 'l1') -> jax.Array:
  """Mean absolute or squared error of [B, T, H, W, 3]."""
  difference = decoded - pixels
  if kind == 'l1':
    return jnp.abs(difference).mean()
  if kind == 'l2':
    return jnp.square(difference).mean()
  raise ValueError(
      f'Unknown reconstruction {kind!r}; choose from {RECONSTRUCTIONS}.')


def perceptual(features: FeatureFn, decoded: jax.Array,
               images: jax.Array) -> jax.Array:
  """Distance of deep features: `distances.feature_distances`, averaged over
  positions, images and layers.

  Args:
    features: Network that gives one or more feature maps.
    decoded: [N, H, W, 3] in about [-1, 1].
    images: [N, H, W, 3]; no gradient goes to them.
  """
  ours = features(decoded)
  theirs = [jax.lax.stop_gradient(f) for f in features(images)]
  maps = distances.feature_distances(ours, theirs)
  return jnp.stack([layer.mean() for layer in maps]).mean()


def pick_frames(key: jax.Array, num_frames: int, count: int) -> jax.Array:
  """Draws `count` frames of a clip without replacement, [count]."""
  if count >= num_frames:
    return jnp.arange(num_frames)
  return jax.random.permutation(key, num_frames)[:count]


def kl(posterior: types.Posterior) -> jax.Array:
  """KL divergence to a unit Gaussian, in nats a latent value."""
  mean, logvar = posterior.mean, posterior.logvar
  return 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar).mean()


def generator_loss(fake_logits: jax.Array, kind: str) -> jax.Array:
  """What the autoencoder pays for patches told to be fake."""
  fake_logits = fake_logits.astype(jnp.float32)
  if kind == 'hinge':
    return -fake_logits.mean()
  if kind == 'non_saturating':
    return jax.nn.softplus(-fake_logits).mean()
  raise ValueError(f'Unknown GAN loss {kind!r}; choose from {ADVERSARIAL}.')


def discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array,
                       kind: str) -> jax.Array:
  """What the discriminator pays; halves as in VQ-GAN for 'hinge'."""
  real_logits = real_logits.astype(jnp.float32)
  fake_logits = fake_logits.astype(jnp.float32)
  if kind == 'hinge':
    return 0.5 * (jax.nn.relu(1.0 - real_logits).mean() +
                  jax.nn.relu(1.0 + fake_logits).mean())
  if kind == 'non_saturating':
    return (jax.nn.softplus(-real_logits).mean() +
            jax.nn.softplus(fake_logits).mean())
  raise ValueError(f'Unknown GAN loss {kind!r}; choose from {ADVERSARIAL}.')


def lecam(real_logits: jax.Array, fake_logits: jax.Array,
          real_mean: jax.Array, fake_mean: jax.Array) -> jax.Array:
  """LeCam regularisation (Tseng et al., 2104.03310, equation 3).

  Args:
    real_logits: Logits of real patches.
    fake_logits: Logits of decoded patches.
    real_mean: Moving average of the real logits' mean, a scalar.
    fake_mean: The same of the fake ones.
  """
  real_logits = real_logits.astype(jnp.float32)
  fake_logits = fake_logits.astype(jnp.float32)
  return (jnp.square(jax.nn.relu(real_logits - fake_mean)).mean() +
          jnp.square(jax.nn.relu(real_mean - fake_logits)).mean())


def r1(logits_fn: Callable[[jax.Array], jax.Array],
       pixels: jax.Array) -> jax.Array:
  """Squared gradient norm at real clips (Mescheder et al., 1801.04406).

  Args:
    logits_fn: Maps pixels [B, ...] to patch logits [B, ...].
    pixels: Real clips or images.

  Returns:
    Mean over clips of |d sum of patch-mean logits / d pixels|^2 / 2.
  """
  def total(x):
    logits = logits_fn(x).astype(jnp.float32)
    return logits.mean(tuple(range(1, logits.ndim))).sum()

  gradient = jax.grad(total)(pixels)
  return 0.5 * jnp.square(gradient).sum() / pixels.shape[0]


def adaptive_weight(reconstruction_gradient: jax.Array,
                    adversarial_gradient: jax.Array,
                    maximum: float = 1e4) -> jax.Array:
  """Weight that makes both gradients equally long (VQ-GAN, equation 7).

  Ours: the gradients are those at the decoded pixels, which come free, not at
  the last layer's kernel.
  """
  ratio = optax.tree.norm(reconstruction_gradient) / (
      optax.tree.norm(adversarial_gradient) + 1e-4)
  return jax.lax.stop_gradient(jnp.clip(ratio, 0.0, maximum))
