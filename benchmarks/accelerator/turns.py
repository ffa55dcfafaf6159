"""Two programs that are timed in turns, each in a process of its own.

A child gets ready (it compiles), prints one line of JSON, and then runs a few
steps for each line that it reads, printing their milliseconds. So neither
program sees what the other left in its process, and a clock that drifts meets
both alike.
"""
from collections.abc import Callable, Sequence
import contextlib
import json
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

_MAX_ERROR = 1500  # Characters of a child's last words.


class ChildError(Exception):
  """A child that ended, or did not answer in time; says what it printed."""


class Child:
  """A process that serves timings; see `serve`."""

  def __init__(self, command: Sequence[str], deadline: float,
               environment: dict[str, str] | None = None):
    """Starts it.

    Args:
      command: The program and its arguments.
      deadline: `time.monotonic()` after which no answer is waited for.
      environment: Variables besides this process's.
    """
    self._deadline = deadline
    self._rest = b''
    self._errors = tempfile.TemporaryFile()
    self._process = subprocess.Popen(
        list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=self._errors, env=os.environ | (environment or {}))

  def ask(self, line: str = '') -> dict[str, Any]:
    """Sends a line, unless it is empty, and returns the next row.

    Raises:
      ChildError: If the child ends, or the deadline passes.
    """
    if line:
      assert self._process.stdin
      try:
        self._process.stdin.write(line.encode() + b'\n')
        self._process.stdin.flush()
      except BrokenPipeError:
        raise ChildError(self._say('ended')) from None
    while True:
      *lines, self._rest = (self._rest + self._read()).split(b'\n')
      rows = [found for found in lines if found.startswith(b'{')]
      if rows:  # One answer a question; what a library prints is no row.
        return json.loads(rows[0])

  def close(self) -> None:
    """Ends the child."""
    self._process.kill()
    self._process.wait()
    for stream in (self._process.stdin, self._process.stdout, self._errors):
      assert stream
      with contextlib.suppress(BrokenPipeError):
        stream.close()

  def _read(self) -> bytes:
    """What the child prints next."""
    assert self._process.stdout
    left = max(self._deadline - time.monotonic(), 0)
    if not select.select([self._process.stdout], [], [], left)[0]:
      raise ChildError(self._say('no answer in time'))
    chunk = os.read(self._process.stdout.fileno(), 1 << 16)
    if not chunk:
      self._process.wait()
      raise ChildError(self._say(f'ended with {self._process.returncode}'))
    return chunk

  def _say(self, what: str) -> str:
    self._errors.seek(0)
    words = self._errors.read()[-_MAX_ERROR:].decode(errors='replace')
    return f'{what}: {words.strip()}'


def serve(ready: dict[str, Any], run: Callable[[], Any],
          clock: Callable[[], float] = time.perf_counter,
          wait: Callable[[], Any] | None = None) -> None:
  """The child's side: prints `ready`, then times runs for each line it reads.

  Args:
    ready: What is known before the first timing.
    run: One step; it returns when the device has done it, unless `wait` does.
    clock: Seconds; `time.process_time` where others share the cores.
    wait: Returns when the device has done all steps. Then the steps of a line
      are timed together, as a training loop runs them, and count as one
      measurement: their mean.
  """
  print(json.dumps(ready), flush=True)
  for line in sys.stdin:
    times, steps = [], int(line)
    if wait:
      began = clock()
      for _ in range(steps):
        run()
      wait()
      times.append(1e3 * (clock() - began) / steps)
    else:
      for _ in range(steps):
        began = clock()
        run()
        times.append(1e3 * (clock() - began))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB.
    print(json.dumps(dict(ms=times, peak_mib=peak / 1024)), flush=True)


def in_turns(children: dict[str, Child], *, rounds: int, steps: int
             ) -> dict[str, dict[str, Any]]:
  """Times each child in each round.

  Args:
    children: By name; all are ready.
    rounds: Number of rounds; the first also warms up and does not count.
    steps: Steps of a child in a round.

  Returns:
    By name: median, quartiles and number of the milliseconds of a step.

  Raises:
    ChildError: As for `Child.ask`.
  """
  times: dict[str, list[float]] = {name: [] for name in children}
  for number in range(rounds + 1):
    for name, child in children.items():
      measured = child.ask(str(steps))['ms']
      if number:
        times[name] += measured
  return {name: summary(found) for name, found in times.items()}


def summary(milliseconds: Sequence[float]) -> dict[str, Any]:
  """Median and quartiles of measurements, and how many they are of."""
  low, middle, high = statistics.quantiles(milliseconds, n=4)
  return dict(ms=round(middle, 3), ms_quartiles=[round(low, 3), round(high, 3)],
              measurements=len(milliseconds))
