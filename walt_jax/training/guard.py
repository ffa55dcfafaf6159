"""Steps whose loss or gradients are not finite change nothing.

The test is part of the compiled step. The host learns of a failed step some
steps late, and until then nothing changes: the steps dispatched meanwhile are
taken again. So the state before the failed step is still there to be saved,
and the run continues as if each step had been waited for.
"""
from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.training import state as train_state

PyTree = Any
Metrics = dict[str, jax.Array]


def all_finite(metrics: Metrics) -> jax.Array:
  """Whether every metric (losses, norms of gradients) is finite, bool []."""
  return jnp.stack([jnp.isfinite(value).all()
                    for value in jax.tree.leaves(metrics)]).all()


def guarded(train_step: Callable[..., tuple[PyTree, Metrics]]
            ) -> Callable[..., tuple[PyTree, jax.Array, Metrics]]:
  """Makes `step(state, held, *inputs) -> (state, held, metrics)`.

  Args:
    train_step: `train_step(state, *inputs) -> (state, metrics)`.

  Returns:
    The step. `held`, bool [], says whether a step failed that the host has
    not looked at; then, or where this step fails, the state stays as it is.
  """
  def step(state, held, *inputs):
    updated, metrics = train_step(state, *inputs)
    metrics = jax.tree.map(jnp.asarray, metrics)
    held = held | ~all_finite(metrics)
    state = jax.tree.map(lambda new, old: jnp.where(held, old, new),
                         updated, state)
    return state, held, metrics

  return step


def skip(state: train_state.TrainState) -> train_state.TrainState:
  """The state after a step that changes nothing."""
  return dataclasses.replace(state, step=state.step + 1)
