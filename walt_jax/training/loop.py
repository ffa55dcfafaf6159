"""The one training loop: every stage, every mesh, one process or many."""
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import json
import time
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules as partition
from walt_jax.training import checkpoints as checkpoints_lib
from walt_jax.training import logging as logging_lib
from walt_jax.training import preemption
from walt_jax.training import progress as progress_lib
from walt_jax.training import stage as stage_lib
from walt_jax.training import state as train_state

PyTree = Any
Batches = Callable[[int], Iterator[PyTree]]

# Steps that may wait on the devices: enough to keep them busy, few enough
# that a stop signal and the progress line are not far behind.
_MAX_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True)
class LoopOptions:
  """How long to train and what to do on the way.

  Attributes:
    num_steps: Steps in all, those before a restart included; 0 saves the
      initial state.
    log_every: Steps between lines of metrics; the last step has one too.
    save_every: Steps between checkpoints; 0: only at the end.
    eval_every: Steps between evaluations; 0: none. Otherwise the initial and
      the last state are evaluated too.
    seed: Of initial parameters and of every step's noise.
    profile_start: First step of a profiler trace, or None.
    profile_steps: Steps that the trace holds.
  """
  num_steps: int
  log_every: int = 100
  save_every: int = 0
  eval_every: int = 0
  seed: int = 0
  profile_start: int | None = None
  profile_steps: int = 5

  def __post_init__(self):
    if self.num_steps < 0 or self.log_every < 1:
      raise ValueError(
          f'train.num_steps={self.num_steps} must be at least 0 and '
          f'train.log_every={self.log_every} at least 1.')
    if self.save_every < 0 or self.eval_every < 0:
      raise ValueError(
          f'train.save_every={self.save_every} and train.eval_every='
          f'{self.eval_every} must be at least 0 (never).')


def run(
    stage: stage_lib.Stage,
    batches: Batches,
    mesh: jax.sharding.Mesh,
    options: LoopOptions,
    checkpoints: checkpoints_lib.Checkpoints,
    writer: logging_lib.Writer,
) -> train_state.TrainState:
  """Trains a stage to `options.num_steps`, from its newest checkpoint if any.

  Args:
    stage: What to train.
    batches: `batches(n)` iterates over this process's rows of the global
      batches n, n + 1, ...: pytrees of NumPy arrays of unchanging shapes.
    mesh: Devices to train on.
    options: Steps, intervals and seed.
    checkpoints: The work directory.
    writer: Where metrics go; closed at the end.

  Returns:
    The state after the last step, on the mesh.

  Raises:
    preemption.Preempted: After saving, when asked to stop by a signal.
  """
  with contextlib.ExitStack() as stack:
    stack.enter_context(partition.activate(mesh))
    stop = stack.enter_context(preemption.StopSignal())
    stack.callback(writer.close)
    stack.callback(checkpoints.close)
    return _Run(
        stage, batches, mesh, options, checkpoints, writer, stop).train()


class _Run:
  """One call of `run`: what its parts share."""

  def __init__(
      self, stage, batches, mesh, options, checkpoints, writer, stop):
    self.stage = stage
    self.batches = batches
    self.mesh = mesh
    self.options = options
    self.checkpoints = checkpoints
    self.writer = writer
    self.stop = stop
    self.pending: tuple[int, stage_lib.Metrics] | None = None
    self.progress = progress_lib.Progress(
        stage.name, options.num_steps, enabled=multihost.is_main())
    everywhere = mesh_lib.replicated(mesh)
    self.init_key, self.train_key, self.eval_key = jax.jit(
        lambda: tuple(jax.random.split(jax.random.key(options.seed), 3)),
        out_shardings=(everywhere,) * 3)()
    self.frozen_shardings = partition.tree_shardings(
        stage.frozen, mesh, stage.frozen_rules)
    self.frozen = multihost.put(stage.frozen, self.frozen_shardings)
    self.step_frozen = self.frozen if stage.step_uses_frozen else None
    abstract = jax.eval_shape(stage.init, self.init_key)
    self.shardings = partition.tree_shardings(abstract, mesh, stage.rules)
    self.abstract = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding),
        abstract, self.shardings)

  def train(self) -> train_state.TrainState:
    options = self.options
    state, step, next_batch, restored = self._start()
    if not restored:
      self._evaluate(state, step)
    if step >= options.num_steps:
      if not restored:
        self._save(state, step, next_batch)
      self.progress.message(f'at step {step}: nothing to train')
      self._finish(step)
      return state
    iterator = self.batches(next_batch)
    batch = multihost.global_batch(next(iterator), self.mesh)
    encode, train_step = self._compile(state, batch)
    in_flight: list[stage_lib.Metrics] = []
    self.progress.start(step)
    with self._profiler() as profile:
      while step < options.num_steps:
        profile(step, in_flight)
        with jax.transfer_guard('disallow'):
          latents = encode(self.frozen, batch, self.train_key, state.step)
          state, metrics = train_step(
              state, latents, self.train_key, self.step_frozen)
        del batch, latents
        step += 1
        next_batch += 1
        if step < options.num_steps:
          # The devices work on the step just dispatched meanwhile.
          batch = multihost.global_batch(next(iterator), self.mesh)
        in_flight.append(metrics)
        if len(in_flight) > _MAX_IN_FLIGHT:
          jax.block_until_ready(in_flight.pop(0))
        last = step == options.num_steps
        if step % options.log_every == 0 or last:
          self._flush_metrics()
          self.pending = step, metrics
        stopping = self.stop.requested(step)
        if last or _due(step, options.eval_every):
          self._evaluate(state, step)
        if last or stopping or _due(step, options.save_every):
          self._save(state, step, next_batch)
        if stopping and not last:
          self.checkpoints.wait()
          self._finish(step)
          raise preemption.Preempted(step)
        self.progress.update(step)
    self._finish(step)
    return state

  def _start(self) -> tuple[train_state.TrainState, int, int, bool]:
    """Returns (state, step, index of the next batch, whether restored)."""
    step = self.checkpoints.latest_step()
    self.checkpoints.write_config()
    if step is None:
      self.writer.resume(-1)
      init = jax.jit(self.stage.init, out_shardings=self.shardings)
      return init(self.init_key), 0, 0, False
    self.writer.resume(step)
    state, next_batch = self.checkpoints.restore(self.abstract)
    self.progress.message(f'resumed at step {step}')
    return state, step, next_batch, True

  def _compile(self, state, batch):
    """Compiles the two programs ahead of the first step."""
    began = time.perf_counter()
    rows = mesh_lib.batch_sharding(self.mesh)
    everywhere = mesh_lib.replicated(self.mesh)
    stage = self.stage

    def encode(frozen, batch, key, step):
      key = jax.random.fold_in(jax.random.fold_in(key, step), 1)
      return stage.encode(frozen, batch, key)

    def train_step(state, batch, key, frozen):
      key = jax.random.fold_in(jax.random.fold_in(key, state.step), 0)
      last = (frozen,) if stage.step_uses_frozen else ()
      state, metrics = stage.train_step(state, batch, key, *last)
      return state, jax.tree.map(jnp.asarray, metrics)

    if stage.encode is None:
      compiled_encode = lambda frozen, batch, key, step: batch
      latents = batch
    else:
      lowered = jax.jit(
          encode,
          in_shardings=(self.frozen_shardings, rows, everywhere, everywhere),
          out_shardings=rows,
      ).lower(self.frozen, batch, self.train_key, state.step)
      compiled_encode = lowered.compile()
      latents = lowered.out_info
    step_frozen_shardings = (
        self.frozen_shardings if stage.step_uses_frozen else None)
    compiled_step = jax.jit(
        train_step,
        in_shardings=(self.shardings, rows, everywhere, step_frozen_shardings),
        out_shardings=(self.shardings, everywhere),
        donate_argnums=0,
    ).lower(state, latents, self.train_key, self.step_frozen).compile()
    self.progress.compiled(time.perf_counter() - began)
    return compiled_encode, compiled_step

  def _flush_metrics(self) -> None:
    """Writes the metrics of the last logged step, one interval late."""
    if self.pending is None:
      return
    step, metrics = self.pending
    self.pending = None
    values = {f'train/{name}': value
              for name, value in jax.device_get(metrics).items()}
    self.writer.write_scalars(step, values)
    self.writer.write_curves(step, self.progress.speed())
    self.progress.show(values)

  def _evaluate(self, state, step: int) -> None:
    if self.stage.evaluate is None or not self.options.eval_every:
      return
    self._flush_metrics()
    with self.progress.aside('evaluate'):
      jax.block_until_ready(state)
      values, images = self.stage.evaluate(state, self.frozen, self.eval_key)
    values = {f'eval/{name}': value for name, value in values.items()}
    self.writer.write_scalars(step, values)
    self.writer.write_images(step, images)
    self.progress.message(
        f'step {step}: ' + ', '.join(
            f'{name} {float(value):.4g}' for name, value in values.items()))

  def _save(self, state, step: int, next_batch: int) -> None:
    # A checkpoint promises that the lines up to its step are written.
    self._flush_metrics()
    self.writer.flush()
    with self.progress.aside('save'):
      self.checkpoints.save(step, state, next_batch)

  def _finish(self, step: int) -> None:
    self._flush_metrics()
    self.checkpoints.wait()
    report = self.progress.finish(step, self.mesh)
    if multihost.is_main():
      path = self.checkpoints.workdir / 'timing.json'
      path.write_text(json.dumps(report, indent=2) + '\n')

  @contextlib.contextmanager
  def _profiler(self):
    """Yields `at_step(step, in_flight)`, which starts and ends the trace."""
    start = self.options.profile_start
    active = False

    def at_step(step: int, in_flight: list[stage_lib.Metrics]) -> None:
      nonlocal active
      if start is None:
        return
      if step == start:
        jax.block_until_ready(in_flight)
        jax.profiler.start_trace(str(self.checkpoints.workdir / 'profile'))
        active = True
      elif active and step == start + self.options.profile_steps:
        jax.block_until_ready(in_flight)
        jax.profiler.stop_trace()
        active = False

    try:
      yield at_step
    finally:
      if active:
        jax.profiler.stop_trace()


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0
