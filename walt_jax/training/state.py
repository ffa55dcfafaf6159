"""The state that survives a training step, and a restart."""
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from flax import struct
import jax
import jax.numpy as jnp
import optax

PyTree = Any
Decay = TypeVar('Decay', str, float)  # Of an average, such as 0.9999.


@struct.dataclass
class TrainState:
  """Everything that a checkpoint holds of a model in training.

  Attributes:
    step: int32 [], the number of steps taken.
    params: Nested dict of float32 arrays.
    opt_state: State of the optimizer, or of several by name.
    ema: Averages of the parameters by name, such as {'0.9999': params}; empty
      without averages.
    extra: Small state of one stage (LeCam means, guard counters), by name.
  """
  step: jax.Array
  params: PyTree
  opt_state: PyTree
  ema: dict[str, PyTree] = struct.field(default_factory=dict)
  extra: dict[str, PyTree] = struct.field(default_factory=dict)


def create(
    params: PyTree,
    optimizer: optax.GradientTransformation,
    ema_decays: tuple[float, ...] = (),
    extra: Mapping[str, PyTree] | None = None,
) -> TrainState:
  """Returns the state at step 0; averages start at the parameters."""
  return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=optimizer.init(params),
      ema={str(decay): jax.tree.map(jnp.array, params)
           for decay in ema_decays},
      extra=dict(extra or {}))


def longest_average(decays: Iterable[Decay]) -> Decay | None:
  """Returns the decay of the longest memory, or None without averages."""
  return max(decays, key=float, default=None)


def averaged(ema: Mapping[str, PyTree], params: PyTree) -> PyTree:
  """Returns the average of the longest memory, or `params` without one."""
  decay = longest_average(ema)
  return params if decay is None else ema[decay]


def update_ema(ema: dict[str, PyTree], params: PyTree) -> dict[str, PyTree]:
  """Moves each average, named by its decay, towards `params`."""
  return {
      decay: optax.incremental_update(params, tree, 1.0 - float(decay))
      for decay, tree in ema.items()}
