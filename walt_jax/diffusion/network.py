"""What a sampler sees of a network: bound to its conditions once, then called.

All that depends on the conditions alone is computed when they are bound,
before the loop over steps; a step pays for what time and noise change.
"""
from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from walt_jax.core import types

# One pass: (x_t [B, 1+t, h, w, c], timestep float32 [] of all rows, the last
# estimate of x_0 or None) -> output as x_t.
EvaluateFn = Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array]
# (conditioning without `self_cond`, number B of its rows) -> passes.
Network = Callable[[types.Conditioning, int], EvaluateFn]
# (x_t, timestep [B, 1], conditioning) -> output as x_t.
DenoiseFn = Callable[[jax.Array, jax.Array, types.Conditioning], jax.Array]


def of_function(denoise_fn: DenoiseFn) -> Network:
  """The network that a function is which prepares nothing."""

  def bind(conditioning, num_rows):

    def evaluate(x_t, timestep, self_cond):
      return denoise_fn(
          x_t, jnp.broadcast_to(timestep, (num_rows, 1)),
          dataclasses.replace(conditioning, self_cond=self_cond))

    return evaluate

  return bind
