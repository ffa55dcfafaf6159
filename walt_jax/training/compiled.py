"""The compiled programs of a stage on a mesh, and the arrays they share."""
from collections.abc import Callable
import time
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.diffusion import noise
from walt_jax.parallel import compiler_options
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules as partition
from walt_jax.training import guard
from walt_jax.training import stage as stage_lib
from walt_jax.training import state as train_state

PyTree = Any


class Programs:
  """A stage made ready to run.

  Attributes:
    stage: The stage.
    mesh: Devices it runs on.
    init_key: Random key of the initial parameters.
    train_key: Random key of all steps; each folds its own number into it.
    eval_key: Random key of evaluations.
    frozen: The stage's frozen parameters, on the mesh.
    shardings: Shardings of the state.
    abstract: Shapes, types and shardings of the state.
  """

  def __init__(self, stage: stage_lib.Stage, mesh: jax.sharding.Mesh,
               seed: int, on_compiled: Callable[[float], None]):
    """Places the frozen parameters.

    Args:
      stage: What to run.
      mesh: Where.
      seed: Random seed of the three keys.
      on_compiled: Called with the seconds that a compilation took.
    """
    self.stage = stage
    self.mesh = mesh
    self._on_compiled = on_compiled
    self._compiled: dict[tuple, tuple[Callable, Callable]] = {}
    self._everywhere = mesh_lib.replicated(mesh)
    self.init_key, self.train_key, self.eval_key = jax.jit(
        lambda: tuple(jax.random.split(noise.key_of_seed(seed), 3)),
        out_shardings=(self._everywhere,) * 3)()
    self._frozen_shardings = partition.tree_shardings(
        stage.frozen, mesh, stage.frozen_rules)
    self.frozen = multihost.put(stage.frozen, self._frozen_shardings)
    abstract = jax.eval_shape(stage.init, self.init_key)
    self.shardings = partition.tree_shardings(abstract, mesh, stage.rules)
    self.abstract = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding),
        abstract, self.shardings)

  def new_state(self) -> train_state.TrainState:
    """The state at step 0."""
    warm = self.stage.warm_start
    if warm is None:
      init = jax.jit(self.stage.init, out_shardings=self.shardings)
      return init(self.init_key)
    params = multihost.put(warm.read(), self.shardings.params)
    return jax.jit(warm.create, out_shardings=self.shardings)(params)

  def not_held(self) -> jax.Array:
    """The guard's flag of a run in which no step failed."""
    return jax.jit(lambda: jnp.zeros((), bool),
                   out_shardings=self._everywhere)()

  def skip(self, state: train_state.TrainState) -> train_state.TrainState:
    """The state after a step that changed nothing; donates `state`."""
    return jax.jit(guard.skip, out_shardings=self.shardings,
                   donate_argnums=0)(state)

  def prepare(self, state: train_state.TrainState, batch: PyTree,
              step: int) -> Callable:
    """The step for batches of these shapes, compiled when they first come.

    Args:
      state: Any state of the stage.
      batch: A global batch on the mesh.
      step: Number of the step to take.

    Returns:
      `step(state, held, batch, key) -> (state, held, metrics)`, which
      donates `state`; see `guard.guarded`.
    """
    stage = self.stage.at_step(step)
    which = (stage.train_step,
             *(leaf.shape for leaf in jax.tree.leaves(batch)))
    if which not in self._compiled:
      began = time.perf_counter()
      self._compiled[which] = self._compile(stage, state, batch)
      self._on_compiled(time.perf_counter() - began)
    encode, train_step = self._compiled[which]

    def take(state, held, batch, key):
      latents = encode(self.frozen, batch, key, state.step)
      return train_step(state, held, latents, key, self.frozen)

    return take

  def _compile(self, stage, state, batch) -> tuple[Callable, Callable]:
    if stage.encode is None:
      compiled_encode = lambda frozen, batch, key, step: batch
      latents = batch
    else:
      lowered = jit_encode(
          stage, self.mesh, self._frozen_shardings,
      ).lower(self.frozen, batch, self.train_key, state.step)
      compiled_encode = lowered.compile()
      latents = lowered.out_info
    compiled_step = jit_train_step(
        stage, self.mesh, self.shardings, self._frozen_shardings,
    ).lower(state, self.not_held(), latents, self.train_key,
            self.frozen).compile()
    return compiled_encode, compiled_step


def jit_encode(stage: stage_lib.Stage, mesh: jax.sharding.Mesh,
               frozen_shardings: PyTree) -> Any:
  """The program `(frozen, batch, key, step) -> batch of the train step`."""
  rows, everywhere = mesh_lib.batch_sharding(mesh), mesh_lib.replicated(mesh)
  encode_batch = stage.encode  # The program keeps nothing else of the stage.

  def encode(frozen, batch, key, step):
    key = jax.random.fold_in(jax.random.fold_in(key, step), 1)
    return encode_batch(frozen, batch, key)

  return jax.jit(
      encode, in_shardings=(frozen_shardings, rows, everywhere, everywhere),
      out_shardings=rows,
      compiler_options=compiler_options.of(mesh_lib.platform(mesh)))


def jit_train_step(stage: stage_lib.Stage, mesh: jax.sharding.Mesh,
                   shardings: PyTree, frozen_shardings: PyTree) -> Any:
  """The program `(state, held, batch, key, frozen) -> (state, held, metrics)`,
  which donates `state`; see `guard.guarded`."""
  rows, everywhere = mesh_lib.batch_sharding(mesh), mesh_lib.replicated(mesh)
  take_step = stage.train_step  # The program keeps nothing else of the stage.

  def train_step(state, batch, key, frozen):
    key = jax.random.fold_in(jax.random.fold_in(key, state.step), 0)
    return take_step(state, batch, key, frozen)

  return jax.jit(
      guard.guarded(train_step),
      in_shardings=(shardings, everywhere, rows, everywhere, frozen_shardings),
      out_shardings=(shardings, everywhere, everywhere), donate_argnums=0,
      compiler_options=compiler_options.of(mesh_lib.platform(mesh)))
