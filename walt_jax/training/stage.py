"""What a stage of the cascade gives to the one training loop."""
from collections.abc import Callable
import dataclasses
from typing import Any

import jax

from walt_jax.parallel import rules as partition
from walt_jax.training import state as train_state

PyTree = Any
TrainState = train_state.TrainState
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class WarmStart:
  """Where a new run begins instead of at random parameters (fine-tuning).

  Attributes:
    read: Returns the parameters as host arrays; called in new runs alone.
    create: `create(params) -> TrainState` at step 0, pure.
  """
  read: Callable[[], PyTree]
  create: Callable[[PyTree], TrainState]


@dataclasses.dataclass(frozen=True)
class Opening:
  """Another train step for the first steps of a run.

  A program of its own, as a branch inside one would be: XLA computes
  convolutions in a branch many times slower on CPUs.

  Attributes:
    num_steps: Number of steps.
    train_step: Step on the stage's state; metrics may differ from the stage's.
  """
  num_steps: int
  train_step: Callable[..., tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class Stage:
  """The functions and frozen parameters that one stage trains with.

  The first three functions are pure: the loop jits them. `frozen` is always an
  argument, never a closure, so that it is sharded and not in the checkpoint.

  Attributes:
    name: 'tokenizer', 'denoiser' or 'super_resolution', for messages.
    init: `init(key) -> TrainState`.
    train_step: `train_step(state, batch, key, frozen) -> (state, metrics)`;
      the batch is what `encode` returned, `key` is already that step's own,
      and metrics are scalars. What a step does not use of `frozen` is no input
      of its program.
    rules: Partition rules for every leaf of the state.
    encode: `encode(frozen, batch, key) -> batch of the train step`, or None
      where the train step takes the batch as it is.
    evaluate: `evaluate(state, frozen, key) -> (metrics, images)`, a host
      function: floats, and uint8 [H, W, 3] images, by name. None: no
      evaluation. Nothing that it does may change the training stream.
    frozen: Parameters that do not train (tokenizer, text encoder).
    frozen_rules: Partition rules for `frozen`.
    warm_start: Where a new run begins; None: at `init`.
    opening: Another train step to begin with; None: `train_step` throughout.
  """
  name: str
  init: Callable[[jax.Array], TrainState]
  train_step: Callable[..., tuple[TrainState, Metrics]]
  rules: partition.Rules
  encode: Callable[[PyTree, PyTree, jax.Array], PyTree] | None = None
  evaluate: Callable[
      [TrainState, PyTree, jax.Array],
      tuple[dict[str, float], dict[str, Any]]] | None = None
  frozen: PyTree = dataclasses.field(default_factory=dict)
  frozen_rules: partition.Rules = partition.REPLICATED_RULES
  warm_start: WarmStart | None = None
  opening: Opening | None = None

  def at_step(self, step: int) -> 'Stage':
    """The stage whose `train_step` takes step number `step`."""
    if self.opening is None or step >= self.opening.num_steps:
      return self
    return dataclasses.replace(self, train_step=self.opening.train_step)
