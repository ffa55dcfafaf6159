"""Progress with rate and time left, for anything longer than a few seconds."""
from collections.abc import Iterable, Iterator, Mapping, Sized
import contextlib
import sys
import time
from typing import Any, TextIO, TypeVar

import tqdm

T = TypeVar('T')

_QUIET_SECONDS = 3.0  # Work that ends sooner prints nothing.
_LOG_EVERY_SECONDS = 10.0  # Between lines when nobody watches a terminal.
# The same of training's line, and of its redrawing on a terminal.
_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_REDRAWS = 0.2
_TOLD_WAIT = 0.01  # Share of a step's time; less is not worth a word.


def bar(total: int | None, label: str, unit: str = 'it',
        initial: int = 0) -> tqdm.tqdm:
  """Returns a progress bar on standard error: `with bar(..) as b: b.update()`.

  Args:
    total: Units of work in all, or None when unknown.
    label: What is being done, in a few words.
    unit: What one unit is called.
    initial: Units done by an earlier, interrupted run.
  """
  watched = sys.stderr.isatty()
  return tqdm.tqdm(
      total=total, desc=label, unit=unit, initial=initial, file=sys.stderr,
      delay=_QUIET_SECONDS, dynamic_ncols=watched,
      mininterval=0.5 if watched else _LOG_EVERY_SECONDS)


def track(items: Iterable[T], label: str, unit: str = 'it',
          total: int | None = None) -> Iterator[T]:
  """Yields `items` while showing rate and time left on standard error."""
  if total is None and isinstance(items, Sized):
    total = len(items)
  with bar(total, label, unit) as progress:
    for item in items:
      yield item
      progress.update()


class TrainingProgress:
  """Prints how a run goes: one line redrawn on a terminal, else plain lines.

  Speed counts time in steps alone; compiling, evaluating and saving are
  reported apart from it.
  """

  def __init__(
      self, name: str, num_steps: int, *, enabled: bool = True,
      stream: TextIO | None = None):
    self._name = name
    self._num_steps = num_steps
    self._enabled = enabled
    self._stream = stream or sys.stdout
    self._tty = self._stream.isatty()
    self._first_step = self._step = 0
    self._seconds = {'compile': 0.0, 'evaluate': 0.0, 'save': 0.0}
    self._aside = 0.0
    self._began: float | None = None
    self._shown = 0.0
    self._first: float | None = None
    self._metrics: Mapping[str, Any] = {}

  def message(self, text: str) -> None:
    """Prints a line of its own."""
    self._print(f'{self._name}: {text}')

  def compiled(self, seconds: float) -> None:
    """Reports the compile time, which is not counted as steps."""
    self._seconds['compile'] += seconds
    self._aside += seconds
    self.message(f'compiled in {seconds:.1f} s')

  def start(self, step: int) -> None:
    """Starts the clock: `step` steps were taken before."""
    self._first_step = self._step = step
    self._began = self._shown = time.perf_counter()
    self._aside = 0.0

  def first_step(self, began: float | None) -> None:
    """Notes that a step is complete; the first one is told.

    Args:
      began: When the command began, in seconds since 1970, if that is known.
    """
    if self._first is None and began is not None:
      self._first = max(time.time() - began, 0.0)
      self.message(f'first step {self._first:.1f} s after the start')

  @contextlib.contextmanager
  def aside(self, what: str):
    """Counts the time of its body as `what`, not as steps."""
    began = time.perf_counter()
    try:
      yield
    finally:
      seconds = time.perf_counter() - began
      self._seconds[what] += seconds
      self._aside += seconds

  def show(self, metrics: Mapping[str, Any]) -> None:
    """Takes the newest metrics for the line."""
    self._metrics = metrics

  def update(self, step: int) -> None:
    """Counts a step and prints when it is time to."""
    self._step = step
    wait = _SECONDS_BETWEEN_REDRAWS if self._tty else _SECONDS_BETWEEN_LINES
    now = time.perf_counter()
    if now - self._shown >= wait:
      self._shown = now
      self._print(self._line(), redraw=self._tty)

  def finish(self, step: int, memory: tuple[str, int]) -> dict[str, Any]:
    """Prints the last line and returns what was measured.

    Args:
      step: Steps taken.
      memory: Where it was measured, and its peak in bytes.
    """
    self._step = step
    seconds = self.step_seconds()
    rate = self._rate()
    kind, peak = memory
    if self._began is None:
      self._first_step = step  # Nothing was trained.
    if step > self._first_step:
      self._print(f'{self._name}: {step - self._first_step} steps in '
                  f'{_duration(seconds)} ({rate:.3g} steps/s), {kind} memory '
                  f'peak {peak / 2**30:.2f} GiB')
    first = {} if self._first is None else {
        'first_step_seconds': self._first}
    return first | {
        'step': step, 'steps': step - self._first_step,
        'step_seconds': seconds, 'steps_per_second': rate,
        **{f'{name}_seconds': value
           for name, value in self._seconds.items()},
        f'{kind}_peak_bytes': peak}

  def step_seconds(self) -> float:
    """Seconds in steps so far."""
    if self._began is None:
      return 0.0
    return time.perf_counter() - self._began - self._aside

  def _rate(self) -> float:
    done = self._step - self._first_step
    seconds = self.step_seconds()
    return done / seconds if done and seconds > 0 else 0.0

  def _line(self) -> str:
    rate = self._rate()
    parts = [f'{self._name}: step {self._step}/{self._num_steps}']
    if 'train/loss' in self._metrics:
      parts.append(f'loss {self._metrics["train/loss"]:.4g}')
    if rate:
      parts.append(f'{rate:.3g} steps/s')
    parts += _use_of_chips(self._metrics)
    if rate:
      left = (self._num_steps - self._step) / rate
      parts.append(f'{_duration(left)} left')
    return ', '.join(parts)

  def _print(self, text: str, *, redraw: bool = False) -> None:
    if not self._enabled:
      return
    start, end = ('\r\x1b[K', '') if redraw else (
        '\r\x1b[K' if self._tty else '', '\n')
    self._stream.write(start + text + end)
    self._stream.flush()


def _use_of_chips(metrics: Mapping[str, Any]) -> list[str]:
  """Arithmetic, utilisation, goodput and waits, as far as they are known."""
  parts = []
  if 'perf/tflops_per_chip' in metrics:
    speed = f'{metrics["perf/tflops_per_chip"]:.3g} TFLOP/s a chip'
    if 'train/mfu' in metrics:
      speed += f' (MFU {metrics["train/mfu"]:.3f})'
    parts.append(speed)
  if 'perf/goodput' in metrics:
    parts.append(f'goodput {metrics["perf/goodput"]:.2f}')
  if metrics.get('perf/data_wait', 0.0) >= _TOLD_WAIT:
    parts.append(f'{metrics["perf/data_wait"]:.0%} of steps waiting for data')
  return parts


def _duration(seconds: float) -> str:
  minutes, seconds = divmod(int(round(seconds)), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours} h {minutes:02d} min'
  return f'{minutes} min {seconds:02d} s' if minutes else f'{seconds} s'
