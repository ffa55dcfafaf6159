"""What a run's time goes to: speed, utilisation of the chips, goodput."""
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import time

from walt_jax.core import run_history


@dataclasses.dataclass(frozen=True)
class Work:
  """The arithmetic of a run's steps, and what its chips can do.

  Attributes:
    flops: FLOPs of step number `step` on all chips, without recomputation and
      without frozen networks; None where they are not counted.
    num_chips: Number of chips.
    peak_flops: Dense bfloat16 FLOP/s of a chip; None where it is not known.
  """
  flops: Callable[[int], int] | None = None
  num_chips: int = 1
  peak_flops: float | None = None


@dataclasses.dataclass(frozen=True)
class _Mark:
  """Sums since the start of this process, when a step was complete."""
  steps: int = 0
  flops: int = 0
  seconds: float = 0.0
  waited: float = 0.0
  goodput: float = 0.0


class Meter:
  """Times the steps of one process of a run.

  Steps count when they are seen complete: those that are only dispatched have
  taken no time yet. Speeds are those since the last line of metrics.
  """

  def __init__(self, work: Work, step_seconds: Callable[[], float],
               history: run_history.History, *,
               clock: Callable[[], float] = time.perf_counter,
               now: Callable[[], float] = time.time):
    """Starts at zero.

    Args:
      work: The arithmetic of a step.
      step_seconds: Seconds in steps so far, of this process: without
        compiling, evaluating and saving.
      history: The run until now, this start included.
      clock: Seconds, for waits.
      now: Seconds since 1970.
    """
    self._work = work
    self._step_seconds = step_seconds
    self._history = history
    self._clock = clock
    self._now = now
    self._before = 0.0
    self._steps = self._lost = self._flops = 0
    self._waited = 0.0
    self._last = _Mark()
    self._marks: dict[int, _Mark] = {}

  def resume(self, step: int) -> None:
    """Counts what earlier starts did up to the step that is restored."""
    self._before = self._history.productive.get(step, 0.0)

  @contextlib.contextmanager
  def waiting(self, idle: Callable[[], bool]) -> Iterator[None]:
    """Counts its body as waiting for data, if the devices are idle after it.

    A wait that ends while devices still work costs nothing.
    """
    began = self._clock()
    yield
    if idle():
      self._waited += self._clock() - began

  def complete(self, step: int) -> None:
    """Counts step number `step` (from 0), which has changed the state."""
    self._steps += 1
    if self._work.flops is not None:
      self._flops += self._work.flops(step)

  def lost(self, steps: int) -> None:
    """Counts steps that changed nothing: they are skipped or taken again."""
    self._lost += steps

  def mark(self, step: int) -> None:
    """Notes the time when `step` steps are complete, for `scalars(step)`."""
    self._marks[step] = _Mark(
        self._steps, self._flops, self._step_seconds(), self._waited,
        self._goodput())

  def productive_seconds(self) -> float:
    """Seconds of steps that changed the state, since the run's first start."""
    taken = self._steps + self._lost
    seconds = max(self._step_seconds() - self._waited, 0.0)
    return self._before + (seconds * self._steps / taken if taken else 0.0)

  def scalars(self, step: int) -> dict[str, float]:
    """What to log of a step; empty for one without a mark."""
    mark = self._marks.pop(step, None)
    if mark is None:
      return {}
    last, self._last = self._last, mark
    values: dict[str, float] = {
        'perf/goodput': mark.goodput,
        'perf/restarts': max(len(self._history.attempts) - 1, 0)}
    seconds = mark.seconds - last.seconds
    if seconds <= 0:
      return values
    values |= {
        'perf/steps_per_second': (mark.steps - last.steps) / seconds,
        'perf/data_wait': (mark.waited - last.waited) / seconds}
    if self._work.flops is not None:
      rate = (mark.flops - last.flops) / seconds / self._work.num_chips
      values['perf/tflops_per_chip'] = rate / 1e12
      if self._work.peak_flops:
        values['train/mfu'] = rate / self._work.peak_flops
    return values

  def _goodput(self) -> float:
    wall = self._history.wall_seconds(self._now())
    productive = self.productive_seconds()
    # Clocks of the system jump; no share is above one.
    return productive / max(wall, productive) if productive > 0 else 0.0
