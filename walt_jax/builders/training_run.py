"""What a config becomes: the arguments of the training loop."""
from collections.abc import Callable, Iterator
import dataclasses
from typing import Any

import jax

from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.training import stage as stage_lib
from walt_jax.training import state as train_state


@dataclasses.dataclass(frozen=True)
class Run:
  """What `training.loop.run` is called with, for one config.

  Attributes:
    stage: Functions and frozen parameters.
    batches: `batches(n)` iterates from global batch n on.
    derived: What `config.json` records beside the config: class names, the
      tokenizer's hash.
    finish: Called with the last state: writes what other stages read.
  """
  stage: stage_lib.Stage
  batches: Callable[[int], Iterator[types.Batch]]
  derived: dict[str, Any]
  finish: Callable[[train_state.TrainState], None] = lambda state: None


def check_shapes(init: Callable[[jax.Array], Any]) -> Any:
  """Returns the shapes of what `init(key)` makes.

  Raises:
    UserError: Where a network does not fit itself or its input. Networks check
      windows, heads and patches when they are traced.
  """
  try:
    return jax.eval_shape(init, jax.random.key(0))
  except ValueError as e:
    raise errors.UserError(f'config section model: {e}') from e
