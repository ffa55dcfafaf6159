"""Processes that begin with everything imported.

Importing is two of the four to seven seconds of a core that a tiny `walt`
command takes. A process without devices imports once and is forked for each.
Where the start itself is to be proven, `clusters.started` makes real ones.
"""
from collections.abc import Sequence
import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
from typing import Any

from walt_jax.core import supervised

_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['tests.e2e.warm_imports'])


class Process:
  """`python -m MODULE ARGV` with what of `subprocess.Popen` tests use."""

  def __init__(self, argv: Sequence[Any], log: pathlib.Path,
               environment: dict[str, str]):
    """Starts it.

    Args:
      argv: The module and its arguments.
      log: Gets what it prints.
      environment: Its environment; JAX has read that of this process.
    """
    self._process = _CONTEXT.Process(
        target=_run, args=([str(a) for a in argv], str(log), environment))
    self._process.start()

  @property
  def pid(self) -> int:
    return self._process.pid

  def poll(self) -> int | None:
    """The exit code, negative after a signal; None while it works."""
    return self._process.exitcode

  def wait(self, seconds: float | None = None) -> int:
    """The exit code, once there is one; `subprocess.TimeoutExpired`."""
    self._process.join(seconds)
    if self.poll() is None:
      raise subprocess.TimeoutExpired(f'process {self.pid}', seconds)
    return self.poll()

  def kill(self) -> None:
    self._process.kill()


def _run(argv: list[str], log: str, environment: dict[str, str]) -> None:
  """What the new process does."""
  with open(log, 'wb', buffering=0) as file:
    for stream in (sys.stdout, sys.stderr):
      os.dup2(file.fileno(), stream.fileno())
  # The server ignores it, so that it outlives a Ctrl-C.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  os.environ.clear()
  os.environ.update(environment)
  # A supervised child's work, which nobody watches: its beats stay in a pipe.
  _, beats = os.pipe()
  os.environ[supervised.CHILD] = f'{os.getppid()}:{beats}:alone'
  sys.argv = argv
  runpy.run_module(argv[0], run_name='__main__', alter_sys=True)
