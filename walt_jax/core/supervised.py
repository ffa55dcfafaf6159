"""A command that a process of its own watches over: the side of the child.

The parent (`walt_jax.parallel.children`) hears a beat a second through a pipe,
so that it notices a child that was stopped or hangs. A child ends when its
parent does.
"""
import ctypes
import json
import os
import signal
import sys
import threading
import time

from walt_jax.core import exit_codes

# Set for children, which then do the work instead of watching: the number of
# the parent, of the pipe's end, and 'several' or 'alone'.
CHILD = 'WALT_SUPERVISED'

BEAT, HOLDS, FAULT = b'.', b'+', b'!'
_BEAT_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_MOST_FAULT = 16_000  # Characters of a traceback, its end.

_LOCK = threading.Lock()


def is_child() -> bool:
  """Whether another process watches over this one."""
  return CHILD in os.environ


def is_one_of_several() -> bool:
  """Whether it does so for one of several hosts."""
  return os.environ.get(CHILD, '').endswith(':several')


def begin() -> None:
  """Ties this process to its parent; nothing in one that has none.

  To be called first of all: a parent may be killed at any time.
  """
  if _pipe() is None:
    return
  parent, pipe, _ = os.environ[CHILD].split(':')
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != int(parent):  # Killed before Linux was asked.
    os._exit(exit_codes.HOST_LOST)
  os.set_inheritable(int(pipe), False)
  threading.Thread(target=_beat, daemon=True).start()


def hold() -> None:
  """Tells the parent that there is something to lose from now on."""
  _tell(HOLDS)


def fault(text: str) -> bool:
  """Gives the parent a traceback, which knows whose fault it was.

  Returns:
    Whether there is a parent that takes it.
  """
  return is_one_of_several() and _tell(
      FAULT + json.dumps(text[-_MOST_FAULT:]).encode() + b'\n')


def _tell(data: bytes) -> bool:
  pipe = _pipe()
  if pipe is None:
    return False
  try:
    with _LOCK:
      while data:
        data = data[os.write(pipe, data):]
    return True
  except OSError:
    return False


def _pipe() -> int | None:
  """The pipe to the parent; None where there is none, as in tests of a child.
  """
  found = os.environ.get(CHILD, '').split(':')
  return int(found[1]) if len(found) == 3 else None


def _beat() -> None:
  while True:
    if not _tell(BEAT):
      # Where Linux does not tell: nobody reads any more.
      os._exit(exit_codes.HOST_LOST)
    time.sleep(_BEAT_SECONDS)
