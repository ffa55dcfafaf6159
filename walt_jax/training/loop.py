"""The one training loop: every stage, every mesh, one process or many."""
import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import profile_request
from walt_jax.core import progress
from walt_jax.core import run_files
from walt_jax.core import run_history
from walt_jax.core import workers
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules as partition
from walt_jax.training import checkpoints as checkpoints_lib
from walt_jax.training import compiled
from walt_jax.training import logging as logging_lib
from walt_jax.training import meter as meter_lib
from walt_jax.training import preemption
from walt_jax.training import profiles
from walt_jax.training import replay_bundles
from walt_jax.training import save_clock
from walt_jax.training import stage as stage_lib
from walt_jax.training import state as train_state

PyTree = Any
Batches = Callable[[int], Iterator[PyTree]]
# `(state, step) -> (scalars, images)`, a host function on every process, which
# may not change the training stream.
Evaluator = Callable[
    [train_state.TrainState, int], tuple[dict[str, float], dict[str, Any]]]

# Steps that may wait on the devices: enough to keep them busy, few enough
# that a stop signal and the progress line are not far behind.
_MAX_IN_FLIGHT = 2
_NOT_COUNTED = meter_lib.Work()


@dataclasses.dataclass(frozen=True)
class LoopOptions:
  """How long to train and what to do on the way.

  Attributes:
    num_steps: Steps in all, those before a restart included; 0 saves the
      initial state.
    log_every: Steps between lines of metrics; the last step has one too.
    save_every: Steps between checkpoints; 0: only at the end.
    save_seconds: Seconds after which a checkpoint is due as well; 0: never.
    eval_every: Steps between evaluations; 0: none. Otherwise the initial and
      the last state are evaluated too.
    seed: Random seed of initial parameters and of every step's noise.
    profile: Steps of a profiler trace, or None (see `profiles`).
    began: When the command began, in seconds since 1970; None: when the loop
      does.
    max_failures: Steps in a row whose loss or gradients are not finite before
      training stops; each changes nothing (see `guard`).
  """
  num_steps: int
  log_every: int = 100
  save_every: int = 0
  save_seconds: float = 0.0
  eval_every: int = 0
  seed: int = 0
  profile: profile_request.Request | None = None
  began: float | None = None
  max_failures: int = 10

  def __post_init__(self):
    if self.num_steps < 0 or self.log_every < 1:
      raise ValueError(
          f'train.num_steps={self.num_steps} must be at least 0 and '
          f'train.log_every={self.log_every} at least 1.')
    if self.max_failures < 1:
      raise ValueError(f'max_failures={self.max_failures} must be at least 1.')
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
    evaluators: Sequence[Evaluator] = (),
    work: meter_lib.Work = _NOT_COUNTED,
) -> train_state.TrainState:
  """Trains a stage to `options.num_steps`, from its newest checkpoint if any.

  Args:
    stage: What to train.
    batches: `batches(n)` iterates over this process's rows of the global
      batches n, n + 1, ...: pytrees of NumPy arrays. Each set of shapes costs
      a compilation when it first comes.
    mesh: Devices to train on.
    options: Steps, intervals and seed.
    checkpoints: The work directory.
    writer: Where metrics go; closed at the end.
    evaluators: Called with each evaluation, beside the stage's own.
    work: Arithmetic of the steps, by which their speed is told.

  Returns:
    The state after the last step, on the mesh.

  Raises:
    preemption.Preempted: After saving, when asked to stop by a signal.
    UserError: When `max_failures` steps in a row were not finite.
  """
  with contextlib.ExitStack() as stack:
    stack.enter_context(partition.activate(mesh))
    stop = stack.enter_context(preemption.StopSignal())
    stack.callback(writer.close)
    stack.callback(checkpoints.close)
    workdir, history = checkpoints.workdir, run_history.History()
    if multihost.is_main():
      run_history.note_start(
          workdir, checkpoints.latest_step(), began=options.began)
      history = run_history.read(workdir)
      stack.enter_context(run_history.ended(
          functools.partial(run_history.note_end, workdir)))
    return _Run(
        stage, batches, mesh, options, checkpoints, writer, stop,
        evaluators, work, history).train()


@dataclasses.dataclass(frozen=True)
class _Flight:
  """A step that was dispatched and has not been looked at.

  Attributes:
    step: Steps taken before it.
    batch: Number of its batch.
    rows: This process's rows of that batch, on the host.
    held: The guard's flag after it.
    metrics: What it computed.
  """
  step: int
  batch: int
  rows: PyTree
  held: jax.Array
  metrics: stage_lib.Metrics


class _Feed:
  """Batches in order; those put back come again first."""

  def __init__(self, batches: Iterator[PyTree]):
    self._batches = batches
    self._again: collections.deque[PyTree] = collections.deque()

  def __next__(self) -> PyTree:
    if self._again:
      return self._again.popleft()
    with workers.heeded():
      return next(self._batches)

  def put_back(self, batches: list[PyTree]) -> None:
    self._again.extendleft(reversed(batches))


class _Run:
  """One call of `run`: what its parts share."""

  def __init__(
      self, stage, batches, mesh, options, checkpoints, writer, stop,
      evaluators, work, history):
    self.stage = stage
    self.batches = batches
    self.mesh = mesh
    self.options = options
    self.checkpoints = checkpoints
    self.writer = writer
    self.stop = stop
    self.evaluators = evaluators
    self.pending: tuple[int, stage_lib.Metrics] | None = None
    self.evaluated: tuple[int, dict[str, float]] | None = None
    self.clock = save_clock.SaveClock(
        options.save_seconds, options.log_every)
    self.flights: collections.deque[_Flight] = collections.deque()
    self.failures = self.in_a_row = 0
    self.last_failure = -2
    self.bundle: pathlib.Path | None = None
    self.bundles = replay_bundles.kept(checkpoints.workdir)
    self.progress = progress.TrainingProgress(
        stage.name, options.num_steps, enabled=multihost.is_main())
    self.meter = meter_lib.Meter(
        work, self.progress.step_seconds, history)
    self.programs = compiled.Programs(
        stage, mesh, options.seed, self.progress.compiled)

  def train(self) -> train_state.TrainState:
    options = self.options
    state, step, next_batch, restored = self._start()
    if not restored:
      self._evaluate(state, step)
    if step >= options.num_steps:
      if not restored:
        self._save(state, step, next_batch)
      self.progress.message(f'at step {step}: nothing to train')
      # What the run measured while it trained stays.
      self._finish(step, timing=not restored)
      return state
    feed = _Feed(self.batches(next_batch))
    rows = next(feed)
    batch = multihost.global_batch(rows, self.mesh)
    self.programs.prepare(state, batch, step)
    held = self.programs.not_held()
    self.progress.start(step)
    with profiles.Profiler(
        self.checkpoints.workdir, options.profile) as profiler:
      while step < options.num_steps:
        profiler.at(step, state)
        train_step = self.programs.prepare(state, batch, step)
        with jax.transfer_guard('disallow'), jax.profiler.StepTraceAnnotation(
            'train', step_num=step):
          state, held, metrics = train_step(
              state, held, batch, self.programs.train_key)
        self.stop.hold()
        held.copy_to_host_async()
        self.flights.append(_Flight(step, next_batch, rows, held, metrics))
        step += 1
        next_batch += 1
        rows = batch = None
        if step < options.num_steps:
          # The devices work on the step just dispatched meanwhile.
          with self.meter.waiting(held.is_ready):
            rows = next(feed)
          batch = multihost.global_batch(rows, self.mesh)
        stopping = self.stop.requested(step)
        saving = stopping or self.clock.due(step)
        failed = self._settle(step, wait_for_all=saving)
        if failed is not None:
          # What was dispatched after it changed nothing: it is taken again.
          self.meter.lost(1 + len(self.flights))
          feed.put_back([flight.rows for flight in self.flights] + (
              [] if rows is None else [rows]))
          self.flights.clear()
          step, next_batch, metrics = (
              failed.step + 1, failed.batch + 1, failed.metrics)
          state = self._skip(state, failed)
          held = self.programs.not_held()
          if step < options.num_steps:
            rows = next(feed)
            batch = multihost.global_batch(rows, self.mesh)
        last = step == options.num_steps
        if self._logs(step):
          self._log(step, metrics)
        if last or _due(step, options.eval_every):
          self._evaluate(state, step)
        if last or saving or _due(step, options.save_every):
          self._save(state, step, next_batch)
        if stopping and not last:
          self.checkpoints.wait()
          self._finish(step)
          raise preemption.Preempted(step, self.stop.number)
        self.progress.update(step)
    self._finish(step)
    return state

  def _settle(self, step: int, *, wait_for_all: bool) -> '_Flight | None':
    """Waits for steps until few are in flight; returns one that failed."""
    options = self.options
    allowed = _MAX_IN_FLIGHT
    if (wait_for_all or step == options.num_steps or
        _due(step, options.eval_every) or _due(step, options.save_every)):
      allowed = 0
    elif self._logs(step) and self.pending:
      # The line about to be written must be of steps that count.
      allowed = min(allowed, step - self.pending[0])
    while len(self.flights) > allowed:
      flight = self.flights.popleft()
      if jax.device_get(flight.held):
        return flight
      self.meter.complete(flight.step)
      self.progress.first_step(self.options.began)
      if self._logs(flight.step + 1):
        self.meter.mark(flight.step + 1)
    return None

  def _skip(self, state, failed: '_Flight') -> train_state.TrainState:
    """Reports a failed step and steps over it.

    Raises:
      UserError: After too many in a row.
    """
    if self.pending and self.pending[0] > failed.step + 1:
      self.pending = None
    self.failures += 1
    self.in_a_row = (
        self.in_a_row + 1 if failed.step == self.last_failure + 1 else 1)
    self.last_failure = failed.step
    failure = replay_bundles.Failure(
        step=failed.step, batch=failed.batch,
        key=np.asarray(jax.device_get(
            jax.random.key_data(self.programs.train_key))).tolist(),
        metrics={name: float(value) for name, value in
                 jax.device_get(failed.metrics).items()},
        config=self.checkpoints.config)
    what = f'step {failed.step + 1} is not finite ({failure.culprits})'
    if self.in_a_row == 1:
      self.bundle = self._bundle(failure, state, failed.rows)
    again = (f'; take it again with: walt train --replay {self.bundle}'
             if self.bundle else '')
    if self.in_a_row >= self.options.max_failures:
      self._flush_metrics()
      raise errors.UserError(
          f'training stopped: {what}, as were the {self.in_a_row - 1} steps '
          f'before it; lower the learning rate or look at the data{again}')
    if self._logs(failed.step + 1):
      self.meter.mark(failed.step + 1)
    self.progress.message(
        f'{what}: it changes nothing' + (again if self.in_a_row == 1 else ''))
    return self.programs.skip(state)

  def _bundle(self, failure: replay_bundles.Failure, state, rows):
    """Saves what a replay needs; returns where, None if there are enough."""
    path = replay_bundles.path_of(self.checkpoints.workdir, failure.step)
    if failure.step in self.bundles:  # The run was resumed before it.
      return path
    if len(self.bundles) >= replay_bundles.MAX_BUNDLES:
      return None
    self.bundles.add(failure.step)
    with self.progress.aside('save'):
      replay_bundles.save(path, failure, state,
                   multihost.global_batch(rows, self.mesh))
    return path

  def _start(self) -> tuple[train_state.TrainState, int, int, bool]:
    """Returns (state, step, index of the next batch, whether restored)."""
    self.checkpoints.write_config()
    restored = self.checkpoints.restore(self.programs.abstract)
    if restored is None:
      self.writer.resume(-1)
      return self.programs.new_state(), 0, 0, False
    step = restored.step
    self.writer.resume(step)
    self.meter.resume(step)
    self.progress.message(f'resumed at step {step}')
    return restored.state, step, restored.next_batch, True

  def _logs(self, step: int) -> bool:
    return (step % self.options.log_every == 0 or
            step == self.options.num_steps)

  def _log(self, step: int, metrics: stage_lib.Metrics) -> None:
    """Notes a step's metrics, to be written when the next come."""
    if self.pending and self.pending[0] == step:
      return
    self._flush_metrics()
    self.pending = step, metrics

  def _flush_metrics(self) -> None:
    """Writes the metrics of the last logged step, one interval late."""
    if self.pending is None:
      return
    self.checkpoints.check_owner(now=False)
    step, metrics = self.pending
    self.pending = None
    # A step that failed has values that JSON cannot hold.
    values = {f'train/{name}': value
              for name, value in jax.device_get(metrics).items()
              if np.isfinite(value)}
    if self.failures:
      values['train/skipped_steps'] = self.failures
    values |= self.meter.scalars(step)
    self.writer.write_scalars(step, values)
    self.progress.show(values)

  def _evaluate(self, state, step: int) -> None:
    evaluators = list(self.evaluators)
    if self.stage.evaluate is not None:
      evaluators.insert(0, lambda state, step: self.stage.evaluate(
          state, self.programs.frozen, self.programs.eval_key))
    if not evaluators or not self.options.eval_every:
      return
    self._flush_metrics()
    with self.progress.aside('evaluate'):
      jax.block_until_ready(state)
      values: dict[str, float] = {}
      images: dict[str, Any] = {}
      for evaluate in evaluators:
        more_values, more_images = evaluate(state, step)
        values |= more_values
        images |= more_images
    values = {f'eval/{name}': value for name, value in values.items()}
    self.evaluated = step, values
    wanted = self.checkpoints.keep.metric
    if wanted and wanted not in values:
      raise errors.UserError(
          f'config key train.best_metric is {wanted!r}, but evaluations give '
          f'{", ".join(sorted(values))}; choose one of them')
    self.writer.write_scalars(step, values)
    self.writer.write_images(step, images)
    self.progress.message(
        f'step {step}: ' + ', '.join(
            f'{name} {float(value):.4g}' for name, value in values.items()))

  def _save(self, state, step: int, next_batch: int) -> None:
    # A checkpoint promises that the lines up to its step are written.
    self._flush_metrics()
    self.writer.flush()
    if multihost.is_main():
      run_history.note_save(self.checkpoints.workdir, step,
                            self.meter.productive_seconds())
    with self.progress.aside('save'):
      metrics = None
      if self.evaluated and self.evaluated[0] == step:
        metrics = {name: float(value)
                   for name, value in self.evaluated[1].items()}
      self.checkpoints.save(step, state, next_batch, metrics)
    self.clock.saved()

  def _finish(self, step: int, *, timing: bool = True) -> None:
    self._flush_metrics()
    self.checkpoints.wait()
    report = self.progress.finish(step, mesh_lib.peak_memory(self.mesh))
    if timing and multihost.is_main():
      files.write_json(self.checkpoints.workdir / run_files.TIMING, report)


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0
