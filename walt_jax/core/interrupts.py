"""Ctrl-C and SIGTERM, answered within moments whatever the process does.

Python tells its main thread of a signal between two instructions of its own:
a compiler that runs for minutes is not interrupted, and an exception that is
raised inside of a destructor or a callback is lost. So a thread watches too.
It gives the main thread moments to unwind, then removes what is half made
(`core/scratch.py`) and ends the process.

While there is something to save (`Watch.keep`), the first signal is only
noted, and a second one ends the process at once.
"""
import atexit
from collections.abc import Callable, Iterator
import contextlib
import os
import select
import signal
import sys
import threading
import time
from typing import NoReturn

from walt_jax.core import exit_codes
from walt_jax.core import scratch
from walt_jax.core import supervised

# SIGHUP: the terminal was closed.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Until the main thread has seen a signal, unless it is outside of Python.
_NOTICE_SECONDS = 0.5
# Until it has unwound.
_UNWIND_SECONDS = 5.0
# The same after a second signal.
_HURRY_SECONDS = 1.0


class Stopped(KeyboardInterrupt):
  """A signal asks to stop; raised in the main thread.

  Attributes:
    number: The signal.
    code: The exit code that it means.
  """

  def __init__(self, number: int):
    super().__init__()
    self.number = number
    self.code = code_of(number)


class InOrder(SystemExit):
  """A signal has stopped a command after saving; its text says so."""

  def __init__(self, number: int, what: str):
    super().__init__(code_of(number))
    self._text = f'{words_of(number)} {what}'

  def __str__(self) -> str:
    return self._text


def code_of(number: int) -> int:
  """The exit code of a process that a signal stopped in order."""
  return (exit_codes.INTERRUPTED if number == signal.SIGINT
          else exit_codes.STOPPED)


def words_of(number: int) -> str:
  """What is said of it: 'interrupted', 'stopped by SIGTERM'."""
  return ('interrupted' if number == signal.SIGINT else
          f'stopped by {signal.Signals(number).name}')


class Watch:
  """What signals have asked for.

  Attributes:
    noted: The signal that asks to stop after saving, or None.
    stopped_by: The signal that asks to stop at once, or None.
  """

  def __init__(self, *, may_exit: bool):
    """See `watched`, which enters one."""
    self.noted: int | None = None
    self.stopped_by: int | None = None
    self._may_exit = may_exit
    self._keeping = ''
    self._diverted: Callable[[int], None] | None = None
    self._seen = self._swallowed = self._told = False
    self._main = threading.get_ident()
    self._read = self._write = -1

  def keep(self, notice: str) -> None:
    """From now on the first signal is noted: there is something to save.

    Args:
      notice: Printed when it comes; '' for nothing to save any more.
    """
    self._keeping = notice

  @contextlib.contextmanager
  def diverted(self, handler: Callable[[int], None]) -> Iterator[None]:
    """Gives signals to a handler instead while the body runs."""
    self._diverted = handler
    try:
      yield
    finally:
      self._diverted = None

  def tell(self, text: str) -> None:
    """Prints the one line of an interrupted command."""
    # A parent that watches over one of several hosts says it for its child.
    if not self._told and not supervised.is_one_of_several():
      self._told = True
      # Not through `sys.stderr`, whose lock the main thread may hold.
      with contextlib.suppress(OSError):
        os.write(2, f'walt: {text}\n'.encode())

  def handle(self, number: int, frame) -> None:
    """The handler of the signals, in the main thread."""
    del frame
    if self._diverted is not None:
      self._diverted(number)
      return
    if self.stopped_by is not None and self._may_exit:
      if not self._swallowed:
        return  # It is unwinding; the thread ends it.
      self._swallowed = False
    if self._keeping and self.noted is None:
      self.noted = number
      with contextlib.suppress(OSError):
        os.write(1, f'{self._keeping}\n'.encode())
      return
    self.stopped_by = number
    self._seen = True
    raise Stopped(number)

  @contextlib.contextmanager
  def thread(self) -> Iterator[None]:
    """Runs the thread that watches while the body runs."""
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
    hook = sys.unraisablehook

    def note_lost(lost) -> None:
      if isinstance(lost.exc_value, Stopped):
        self._swallowed = True
      elif self.stopped_by is None:
        hook(lost)

    sys.unraisablehook = note_lost
    thread = threading.Thread(target=self._watch, daemon=True)
    thread.start()
    try:
      yield
    finally:
      signal.set_wakeup_fd(before)
      sys.unraisablehook = hook
      os.write(self._write, b'\0')
      thread.join()
      os.close(self._read)
      os.close(self._write)

  def _watch(self) -> None:
    count = number = own = 0
    deadline, unwinding = None, False
    while True:
      wait = None if deadline is None else max(
          deadline - time.monotonic(), 0.0)
      ready, _, _ = select.select([self._read], [], [],
                                  wait if wait is None else min(wait, 0.2))
      now = time.monotonic()
      if ready:
        for number_now in os.read(self._read, 64):
          if number_now == 0:
            return
          if number_now in _NUMBERS and own:
            own -= 1
          elif number_now in _NUMBERS and self._diverted is None:
            count, number = count + 1, number or number_now
            deadline = now + (
                _NOTICE_SECONDS if count == 1 else _HURRY_SECONDS)
        continue
      if deadline is None:
        continue
      if count == 1 and (self._keeping or self.noted is not None):
        deadline = None  # The main thread stops when it has saved.
        continue
      if self._swallowed and not own:
        own += 1  # The handler raises it once more.
        signal.pthread_kill(self._main, number)
      if now < deadline:
        continue
      if count == 1 and self._seen and not unwinding:
        unwinding, deadline = True, now + _UNWIND_SECONDS
        continue
      self.end(self.stopped_by or number)

  def end(self, number: int) -> None:
    """Ends the process and its children now, leaving nothing half made."""
    self.tell(words_of(number))
    _end_children()
    scratch.remove_all()
    os._exit(code_of(number))


def _end_children() -> None:
  """Kills the processes that this one has started."""
  if sys.platform != 'linux':
    # Who never imported it, which takes a while, has started none.
    multiprocessing = sys.modules.get('multiprocessing')
    for child in multiprocessing.active_children() if multiprocessing else ():
      child.kill()
    return
  for task in os.listdir('/proc/self/task'):
    with contextlib.suppress(OSError):
      with open(f'/proc/self/task/{task}/children') as file:
        for word in file.read().split():
          os.kill(int(word), signal.SIGKILL)


_CURRENT: list[Watch] = []


def current() -> Watch | None:
  """The watch of the command that runs in this process, or None."""
  return _CURRENT[-1] if _CURRENT else None


@contextlib.contextmanager
def watched(*, may_exit: bool) -> Iterator[Watch]:
  """Answers signals while the body runs; they raise `Stopped` in it.

  Signals that the process was told to ignore (as `nohup` does) stay ignored.
  Outside of the main thread, where Python has no handlers, nothing is done.

  Args:
    may_exit: Whether the process may be ended where unwinding takes too long:
      it is a command's own.
  """
  watch = Watch(may_exit=may_exit)
  if threading.current_thread() is not threading.main_thread():
    yield watch
    return
  with contextlib.ExitStack() as stack:
    for number in _NUMBERS:
      before = signal.getsignal(number)
      if before is not signal.SIG_IGN:
        signal.signal(number, watch.handle)
        stack.callback(signal.signal, number, before or signal.SIG_DFL)
    if may_exit:
      stack.enter_context(watch.thread())
    _CURRENT.append(watch)
    stack.callback(_CURRENT.remove, watch)
    yield watch


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
  """The watch of the command, or where there is none one for the body."""
  watch = current()
  if watch is not None:
    yield watch
    return
  with watched(may_exit=False) as watch:
    yield watch


def own_process(work: Callable[[Watch], int]) -> int:
  """Runs what this process is for; one that is interrupted ends here.

  Args:
    work: Returns the exit code; what `Stopped` became of is its to tell.

  Returns:
    The exit code, with which the process is to end at once.
  """
  with watched(may_exit=True) as watch:
    code = work(watch)
    if watch.stopped_by is not None:
      _leave(code)
  # It is done: what is left is the interpreter's own end.
  for number in _NUMBERS:
    signal.signal(number, signal.SIG_IGN)
  return code


def _leave(code: int) -> NoReturn:
  """Ends the process where the interpreter would wait for threads' work."""
  threading.excepthook = lambda args: None
  atexit._run_exitfuncs()  # Such as the removal of temporary folders.
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError):
      stream.flush()
  _end_children()
  os._exit(code)
