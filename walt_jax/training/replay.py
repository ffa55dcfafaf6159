"""Takes the step of a replay bundle again."""
from collections.abc import Callable, Iterator
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.training import compiled
from walt_jax.training import replay_bundles
from walt_jax.training import stage as stage_lib

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What the step gave this time.

  Attributes:
    failed: Whether a metric was not finite again.
    metrics: What it computed now.
    recorded: What it computed when it failed.
    bad_inputs: Paths of the batch's arrays that are not finite.
  """
  failed: bool
  metrics: dict[str, float]
  recorded: dict[str, float]
  bad_inputs: list[str]

  @property
  def equal(self) -> bool:
    """Whether all metrics are as recorded, to the bit."""
    return (self.metrics.keys() == self.recorded.keys() and all(
        np.array_equal(value, self.recorded[name], equal_nan=True)
        for name, value in self.metrics.items()))


def replay(
    path: str | pathlib.Path, stage: stage_lib.Stage,
    batches: Callable[[int], Iterator[PyTree]], mesh: jax.sharding.Mesh,
) -> Outcome:
  """Takes the failed step again, with the program that training uses.

  Args:
    path: The bundle.
    stage: Built from the bundle's config.
    batches: The config's data, asked for the structure of a batch alone.
    mesh: Devices to run on, not necessarily those of the run.

  Raises:
    UserError: If `path` is no bundle, or not of this stage.
  """
  failure = replay_bundles.read_failure(path)
  programs = compiled.Programs(stage, mesh, seed=0,
                                   on_compiled=lambda seconds: None)
  example = next(iter(batches(failure.batch)))
  state, batch = replay_bundles.restore(path, programs.abstract, example, mesh)
  key = multihost.put(np.asarray(failure.key, np.uint32),
                      mesh_lib.replicated(mesh))
  bad_inputs = [
      name for name, leaf in replay_bundles.leaves_by_path(batch).items()
      if not bool(jnp.isfinite(leaf).all())]
  step = programs.prepare(state, batch, int(state.step))
  _, held, metrics = step(state, programs.not_held(), batch,
                          jax.random.wrap_key_data(key))
  return Outcome(
      failed=bool(jax.device_get(held)),
      metrics={name: float(value)
               for name, value in jax.device_get(metrics).items()},
      recorded=failure.metrics, bad_inputs=bad_inputs)
