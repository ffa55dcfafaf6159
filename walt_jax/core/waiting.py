"""A word on what a process waits for, where the wait is long."""
from collections.abc import Callable, Iterator
import contextlib
import sys
import threading

PATIENCE_SECONDS = 5.0


@contextlib.contextmanager
def overdue(seconds: float, act: Callable[[], None]) -> Iterator[None]:
  """Calls a function, in a thread, if the body takes longer than that."""
  timer = threading.Timer(seconds, act)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def told(what: Callable[[], str], *, seconds: float = PATIENCE_SECONDS
         ) -> contextlib.AbstractContextManager[None]:
  """Prints one line if the body takes longer than some seconds.

  Args:
    what: Says what it waits for: 'for process 1 of 2'; called then.
    seconds: How long it may take in silence.
  """
  return overdue(seconds, lambda: print(
      f'walt: waiting {what()}', file=sys.stderr, flush=True))
