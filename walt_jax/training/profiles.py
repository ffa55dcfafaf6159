"""Profiler traces of some steps of one process, planned or asked for later.

A file `profile_now` in the work directory asks a run under way: it holds what
`--profile` takes, or nothing for the next five steps. The process that is meant
looks for it at most every ten seconds, and removes it. Other processes continue
unhindered: a trace waits for this one's devices alone.
"""
from collections.abc import Callable
import pathlib
import time
from typing import Any

import jax

from walt_jax.core import mirror
from walt_jax.core import profile_request
from walt_jax.core import run_files

DEFAULT_STEPS = 5
_SECONDS = 10.0  # Between two looks for the file.


class Profiler:
  """Starts and ends traces; to be asked before each step."""

  def __init__(self, workdir: pathlib.Path,
               request: profile_request.Request | None, *,
               clock: Callable[[], float] = time.monotonic):
    """Traces nothing yet.

    Args:
      workdir: The run's directory; traces go to `profile/` in it.
      request: What the command line asked for.
      clock: Seconds.
    """
    self._target = workdir / run_files.PROFILE
    self._file = workdir / run_files.PROFILE_REQUEST
    self._request = request
    self._clock = clock
    self._looked = -_SECONDS
    # The profiler writes local files alone.
    self._trace: mirror.Mirror | None = None

  def __enter__(self) -> 'Profiler':
    return self

  def __exit__(self, *error: Any) -> None:
    self._end()

  def at(self, step: int, state: Any) -> None:
    """Starts or ends a trace before step number `step`.

    Args:
      step: Steps taken.
      state: What the last step gives; waited for at both ends of a trace.
    """
    if self._trace is None and self._clock() - self._looked >= _SECONDS:
      self._looked = self._clock()
      self._look(step)
    request = self._request
    if request is None or request.process != jax.process_index():
      return
    if self._trace is None and request.first <= step < request.last:
      jax.block_until_ready(state)
      self._trace = mirror.Mirror(self._target)
      jax.profiler.start_trace(str(self._trace.folder))
    elif step >= request.last:
      if self._trace is not None:
        jax.block_until_ready(state)
        self._end()
        _say(f'steps up to {step} are traced in {self._target}')
      self._request = None

  def _look(self, step: int) -> None:
    """Takes up the request of the file, if it is for this process."""
    if not self._file.is_file():
      return
    text = self._file.read_bytes().decode(errors='replace').strip()
    try:
      request = (
          profile_request.parse(text) if text else
          profile_request.Request(step, step + DEFAULT_STEPS))
    except ValueError as error:
      if jax.process_index() == 0:
        self._file.unlink(missing_ok=True)
        _say(f'{self._file}: {error}; nothing is traced')
      return
    if request.process >= jax.process_count() and jax.process_index() == 0:
      self._file.unlink(missing_ok=True)
      _say(f'{self._file}: there is no process {request.process} of '
           f'{jax.process_count()}, they count from 0; nothing is traced')
      return
    if request.process != jax.process_index():
      return
    self._file.unlink(missing_ok=True)
    if request.last <= step:
      _say(f'{self._file}: steps {request.first} to {request.last} are past '
           f'at step {step}; nothing is traced')
      return
    self._request = request

  def _end(self) -> None:
    if self._trace is not None:
      jax.profiler.stop_trace()
      self._trace.close()
      self._trace = None


def _say(text: str) -> None:
  print(f'profiler: {" ".join(text.split())}', flush=True)
