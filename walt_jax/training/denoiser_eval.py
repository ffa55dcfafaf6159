"""Held-out scores of a denoiser: v-loss by quartile of time."""
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types

NUM_QUARTILES = 4
NUM_TIMESTEPS = 1000

# `(params, latent_batch, timestep [B], key) -> loss [B]`, no dropout.
PerExampleLoss = Callable[..., jax.Array]


def quartile_sums(
    per_example_loss: PerExampleLoss, params: Any, batch: types.LatentBatch,
    key: jax.Array) -> jax.Array:
  """Summed loss [4] of a batch with timesteps of each quarter of (0, 1].

  The timesteps of a quarter are spread evenly over the examples and the noise
  is a function of `key` alone, so that two models, or two steps of a run, meet
  the same noise.

  Args:
    per_example_loss: Pure function of the parameters.
    params: Parameters, usually an EMA.
    batch: Held-out latents.
    key: Draws the noise.
  """
  size = batch.latents.shape[0]
  # Stratified: example b of B sits at (b + 1/2) / B within the quarter.
  row = jnp.arange(size) if batch.row is None else batch.row
  within = (row + 0.5) / size

  def total(quartile):
    timestep = (quartile + within) / NUM_QUARTILES
    timestep = jnp.ceil(timestep * NUM_TIMESTEPS) / NUM_TIMESTEPS
    return per_example_loss(
        params, batch, timestep, jax.random.fold_in(key, quartile)).sum()

  return jax.lax.map(total, jnp.arange(NUM_QUARTILES))


def metrics(losses: np.ndarray) -> dict[str, float]:
  """Names the quartiles for the log: q1 is nearly clean, q4 nearly noise."""
  named = {f'v_loss_q{i + 1}': float(x) for i, x in enumerate(losses)}
  return named | {'v_loss': float(np.mean(losses))}
