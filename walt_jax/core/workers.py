"""Processes that work for this one: they end with it, and leave Ctrl-C to it.
"""
from collections.abc import Iterator
import contextlib
import multiprocessing
from multiprocessing import resource_tracker
import os
import signal
import sys
import threading
import time
from typing import TypeVar

from walt_jax.core import exit_codes
from walt_jax.core import waiting

_Item = TypeVar('_Item')

_LOOK_SECONDS = 0.5
_STOPPED = ('T', 't')  # States of a process, as Linux calls them.


def begin(*unused) -> None:
  """To be called in a worker of `multiprocessing`: ends it with its parent."""
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()
  if parent is not None:
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def begin_of(process: int) -> None:
  """The same in a program of its own, whose parent has this number."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_without, args=(process,), daemon=True).start()


def _end_without(process: int) -> None:
  while os.getppid() == process:
    time.sleep(_LOOK_SECONDS)
  os._exit(exit_codes.HOST_LOST)


def _end_after(parent) -> None:
  parent.join()
  os._exit(exit_codes.HOST_LOST)


def deaf(items: Iterator[_Item]) -> Iterator[_Item]:
  """The same items, of which the first one starts processes.

  These hear no Ctrl-C, also while they import, before `begin`: a terminal
  sends it to all, and the one that started them ends them.
  """
  # Whoever starts this process of Python's hears Ctrl-C again afterwards.
  resource_tracker.ensure_running()
  before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
  try:
    first = next(items)
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
  yield first
  yield from items


def heeded(seconds: float = 60.0) -> contextlib.AbstractContextManager[None]:
  """Ends workers that were stopped, if the body waits so long.

  Whoever waits for one that has ended is told so; it would wait for ever for
  one that was stopped. Without workers, nothing is done.
  """
  if not multiprocessing.active_children():
    return contextlib.nullcontext()
  return waiting.overdue(seconds, _end_stopped)


def _end_stopped() -> None:
  for worker in multiprocessing.active_children():
    if _state(worker.pid) in _STOPPED:
      print(f'walt: worker process {worker.pid} was stopped; it is ended',
            file=sys.stderr, flush=True)
      worker.kill()


def _state(process: int | None) -> str:
  try:
    with open(f'/proc/{process}/stat') as file:
      # The name, in brackets, may hold anything.
      return file.read().rpartition(')')[2].split()[0]
  except OSError:
    return ''
