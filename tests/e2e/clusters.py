"""`walt` as several processes on this machine, as several hosts run it."""
from collections.abc import Callable, Sequence
import pathlib
import subprocess
import sys
import time
from typing import Any

from absl.testing import absltest

from tests import ports
from tests import xla_flags
from tests.e2e import tiny
from tests.e2e import warm

PATIENCE = 300.0  # Seconds until processes must have come somewhere.
TIMEOUT = 10.0  # Silence after which a host counts as lost.
# From the loss of a process until the others have ended, on a busy machine.
LIMIT = 30.0


def child_of(pid: int) -> int | None:
  """The process that does the work of one that supervises."""
  with open(f'/proc/{pid}/task/{pid}/children') as file:
    found = file.read().split()
  return int(found[0]) if found else None


def started(test: absltest.TestCase, folder: pathlib.Path, count: int,
            argv: Callable[[int, int], Sequence[Any]], devices: int,
            supervised: bool = True
            ) -> list[subprocess.Popen | warm.Process]:
  """Starts processes, ended with the test; `FOLDER/I.log` has what each says.

  Args:
    test: Ends them.
    folder: Gets the logs.
    count: How many.
    argv: `argv(port, process)`: module and arguments of each.
    devices: Simulated devices of each.
    supervised: Whether each command has its parent process; without, it does
      the work at once, in a process that begins with everything imported.
  """
  port, processes = ports.free_port(), []
  environment = xla_flags.environment(devices)
  for process in range(count):
    log, each = folder / f'{process}.log', list(argv(port, process))
    if supervised:
      with open(log, 'w') as file:
        processes.append(subprocess.Popen(
            [sys.executable, '-m', *map(str, each)], stdout=file, stderr=file,
            cwd=tiny.ROOT, env=environment))
    else:
      processes.append(warm.Process(each, log, environment))
    test.addCleanup(processes[-1].wait)
    test.addCleanup(processes[-1].kill)
  return processes


class Cluster:
  """One `walt` command in several processes.

  Attributes:
    processes: Those that supervise, or work.
  """

  def __init__(self, test: absltest.TestCase, folder: pathlib.Path,
               count: int, *argv: Any, devices: int = 1,
               supervised: bool = True):
    """Starts it; see `started`."""
    self._test, self._folder = test, folder
    folder.mkdir(exist_ok=True)
    self.processes = started(test, folder, count, lambda port, process: [
        'walt_jax', *argv, '--coordinator', f'127.0.0.1:{port}', '--process',
        f'{process}/{count}', '--host_timeout', TIMEOUT], devices, supervised)

  def log(self, process: int) -> str:
    """What a process has said."""
    return (self._folder / f'{process}.log').read_text()

  def codes(self, seconds: float = PATIENCE) -> list[int]:
    """The exit codes, once all have ended."""
    return [process.wait(seconds) for process in self.processes]

  def check(self) -> None:
    """Waits for the end, and fails the test unless all went well."""
    codes = self.codes()
    self._test.assertEqual(codes, [0] * len(codes), '\n'.join(
        map(self.log, range(len(codes)))))

  def wait_for(self, condition: Callable[[], Any]) -> None:
    """Waits while the processes work."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
      for index, process in enumerate(self.processes):
        self._test.assertIsNone(process.poll(), self.log(index))
      self._test.assertLess(time.monotonic(), deadline)
      time.sleep(0.02)

  def last_line(self, process: int) -> str:
    """The last line of our own that a process has said."""
    # A progress bar that was cut off may stand before it.
    return self.log(process).rpartition('walt: ')[2].splitlines()[0]
