"""Random draws with one key a row: a row's draws know nothing of the batch.

Also the key that each of a user's seeds stands for.
"""
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import seeds
from walt_jax.diffusion import schedules


def key_of_seed(seed: int) -> jax.Array:
  """The random key of a seed of 64 bits; unequal seeds have unequal keys.

  `jax.random.key` alone drops the upper 32 bits unless JAX computes with 64.
  The key is what it gives where it does not drop them.

  Raises:
    UserError: The seed does not fit.
  """
  seeds.check(seed)
  upper, lower = divmod(int(seed), 2 ** 32)
  key = jax.random.key(lower)
  if not upper:
    return key
  # Two words, the upper first; a key of 'rbg' holds them twice.
  words = jax.random.key_data(key).at[::2].set(np.uint32(upper))
  return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))


def row_keys(key: jax.Array, num_rows: int, first: int = 0) -> jax.Array:
  """Keys [num_rows]; row i has the same key whatever the batch size."""
  return keys_of_rows(key, jnp.arange(first, first + num_rows))


def keys_of_rows(key: jax.Array, rows: jax.Array) -> jax.Array:
  """Keys [B] of the rows with these numbers, int32 [B]."""
  return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)


def fold(keys: jax.Array, number) -> jax.Array:
  """Folds one number into every row's key [B]."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def normal(keys: jax.Array, shape: Sequence[int]) -> jax.Array:
  """Standard normal float32 [B, *shape] from keys [B]."""
  return jax.vmap(lambda key: jax.random.normal(key, tuple(shape)))(keys)


def uniform(keys: jax.Array, shape: Sequence[int]) -> jax.Array:
  """Uniform float32 [B, *shape] in [0, 1) from keys [B]."""
  return jax.vmap(lambda key: jax.random.uniform(key, tuple(shape)))(keys)


def add_noise(
    schedule: schedules.Schedule, latents: jax.Array, eps: jax.Array,
    timestep: jax.Array,
) -> jax.Array:
  """x_t of latents [B, 1+t, h, w, c] at timestep [B, F], F = 1 or 1+t."""
  alpha, sigma = schedule.alpha_sigma(timestep[..., None, None, None])
  return alpha * latents + sigma * eps


def augment_low_res(
    schedule: schedules.Schedule, keys: jax.Array, low_res: jax.Array,
    level: jax.Array,
) -> jax.Array:
  """Noise conditioning augmentation of the low-resolution input (sec. 4.5).

  Args:
    schedule: The diffusion schedule, whose gamma(level) is used.
    keys: Random keys [B].
    low_res: Clean low-resolution latents [B, 1+t, h/f, w/f, c].
    level: [B, F] in [0, 1].

  Returns:
    Noised latents, as `low_res`.
  """
  eps = normal(keys, low_res.shape[1:])
  return add_noise(schedule, low_res, eps, level)
