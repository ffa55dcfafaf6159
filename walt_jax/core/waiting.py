"""A word on what a process waits for, where the wait is long."""
from collections.abc import Callable, Iterator
import contextlib
import sys
import threading

PATIENCE_SECONDS = 5.0


@contextlib.contextmanager
def told(what: Callable[[], str], *,
         seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
  """Prints one line if the body takes longer than some seconds.

  Args:
    what: Says what it waits for: 'for process 1 of 2'; called then.
    seconds: How long it may take in silence.
  """
  def say() -> None:
    print(f'walt: waiting {what()}', file=sys.stderr, flush=True)

  timer = threading.Timer(seconds, say)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()
