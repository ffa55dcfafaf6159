"""Signs of life of processes that share a folder and nothing else.

Each rewrites a small file of its own; who waits for it looks whether the file
changes, by his own clock. A file that a killed process left does not change.
"""
import contextlib
import pathlib
import threading
import time
import uuid

from walt_jax.core import errors
from walt_jax.core import files

_BEATS = 4  # In the time after which silence counts.


def _file(folder: pathlib.Path, process: int) -> pathlib.Path:
  return folder / f'process-{process:06d}'


@contextlib.contextmanager
def beating(folder: pathlib.Path, process: int, seconds: float):
  """Gives signs of life while its body runs.

  Args:
    folder: Shared with those who wait.
    process: Number of this process.
    seconds: Silence after which others take it for lost.
  """
  stop = threading.Event()

  def beat():
    while True:
      # A failure here is one of the work too, which tells it.
      with contextlib.suppress(errors.UserError, OSError):
        files.write_bytes(_file(folder, process), uuid.uuid4().bytes)
      if stop.wait(seconds / _BEATS):
        return

  thread = threading.Thread(target=beat, daemon=True)
  thread.start()
  try:
    yield
  finally:
    stop.set()
    thread.join()


class Watch:
  """Knows which processes are silent."""

  def __init__(self, folder: pathlib.Path, *, seconds: float,
               start_seconds: float):
    """Looks at nothing yet.

    Args:
      folder: Where the others give their signs.
      seconds: Silence after which a process counts as lost.
      start_seconds: Time for its first sign.
    """
    self._folder, self._seconds = folder, seconds
    self._start_seconds = start_seconds
    self._began = time.monotonic()
    # What was found first may be an earlier run's: (sign, when it changed).
    self._seen: dict[int, tuple[bytes, float | None]] = {}

  def silence(self, process: int) -> str:
    """What to say of a process that counts as lost; '' of one that does not."""
    now = time.monotonic()
    try:
      sign = _file(self._folder, process).read_bytes()
    except OSError:
      sign = b''
    known, changed = self._seen.setdefault(process, (sign, None))
    if sign != known:
      changed = now
    self._seen[process] = sign, changed
    if changed is None:
      return '' if now - self._began < self._start_seconds else (
          f'has not come within {self._start_seconds:g} s')
    return '' if now - changed < self._seconds else (
        f'has been silent for {self._seconds:g} s')
