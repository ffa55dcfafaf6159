"""A command in a child process that is heard from: the side of the parent."""
from collections.abc import Callable, Sequence
import json
import os
import select
import signal
import subprocess
import threading
from typing import Any

from walt_jax.core import supervised

# ('child', exit code), ('hung', seconds of silence), ('holds', None).
Event = tuple[str, Any]

_MOST_BYTES = 1 << 17  # Of a traceback.
# From a signal that a child answers to one that it cannot.
_END_SECONDS = 10.0


class Child:
  """A command that runs.

  Attributes:
    fault: The traceback that it ended with, '' for none.
  """

  def __init__(self, command: Sequence[str], on_event: Callable[[Event], None],
               *, seconds: float, kind: str = 'alone'):
    """Starts it.

    Args:
      command: Program and arguments; the program calls `supervised.begin`.
      on_event: Called in a thread.
      seconds: Silence after which it counts as hung.
      kind: 'several' where it is one of several hosts.
    """
    self.fault = ''
    self._on_event, self._seconds = on_event, seconds
    self._pipe, theirs = os.pipe()
    self._process = subprocess.Popen(
        list(command), pass_fds=[theirs], start_new_session=True,
        env=os.environ | {supervised.CHILD: f'{os.getpid()}:{theirs}:{kind}'})
    os.close(theirs)
    threading.Thread(target=self._listen, daemon=True).start()

  def is_alive(self) -> bool:
    return self._process.poll() is None

  def signal(self, number: int) -> None:
    """Sends a signal; to one that has ended, none."""
    if self.is_alive():
      self._process.send_signal(number)

  def end_soon(self) -> None:
    """Asks it to end now, and sees to it that it does."""
    self.signal(signal.SIGINT)
    self.signal(signal.SIGCONT)
    timer = threading.Timer(_END_SECONDS, self.signal, [signal.SIGKILL])
    timer.daemon = True
    timer.start()

  def kill(self) -> None:
    """Ends it, with all processes that it has started."""
    if self.is_alive():
      self._process.kill()
    self._process.wait()

  def _listen(self) -> None:
    """Hears beats until the pipe closes, which is at the end of the child."""
    rest = b''
    while True:
      ready, _, _ = select.select([self._pipe], [], [], self._seconds)
      if not ready:
        self._on_event(('hung', self._seconds))
        break
      heard = os.read(self._pipe, 1 << 16)
      if not heard:
        break
      rest = self._take((rest + heard)[:_MOST_BYTES])
    code = self._process.wait()
    os.close(self._pipe)
    self._on_event(('child', code))

  def _take(self, heard: bytes) -> bytes:
    """Takes what is complete; returns the rest."""
    while heard:
      kind = heard[:1]
      if kind == supervised.FAULT:
        text, end, after = heard[1:].partition(b'\n')
        if not end:
          return heard
        self.fault, heard = str(json.loads(text)), after
        continue
      if kind == supervised.HOLDS:
        self._on_event(('holds', None))
      heard = heard[1:]
    return b''
