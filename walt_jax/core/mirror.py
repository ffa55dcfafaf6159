"""A folder that is appended to, though a bucket's files can only be replaced.

What appends (lines of metrics, TensorBoard's events, profiles) writes to a
local folder, whose files are copied to the bucket, whole, when they changed.
"""
from collections.abc import Callable
import logging
import os
import pathlib
import threading
import time

from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import scratch

# Between two copies that nobody waits for. A bucket takes about one write a
# second of the same object, and a file grows with the run.
SECONDS = 60.0

_Known = dict[str, tuple[int, int]]  # Name -> size and time of change.


class Mirror:
  """The local side of a folder; that folder itself, where it is local.

  Attributes:
    folder: Where to write.
  """

  def __init__(self, target: str | os.PathLike, *,
               clock: Callable[[], float] = time.monotonic):
    """Makes the local folder; nothing is copied yet.

    Args:
      target: A folder, which need not exist.
      clock: Seconds.
    """
    self._target = paths.path(target)
    self._is_remote = paths.is_remote(self._target)
    self._known: _Known = {}
    self._clock, self._published = clock, clock()
    self._lock = threading.Lock()
    self._thread: threading.Thread | None = None
    self.folder = (scratch.make_folder('mirror')
                   if self._is_remote else paths.make_folder(self._target))

  def fetch(self, name: str) -> None:
    """Copies a file, or the files of a folder, from the bucket."""
    if not self._is_remote:
      return
    for file in paths.files_below(self._target / name):
      relative = file.relative_to(self._target).as_posix()
      copy = self.folder / relative
      copy.parent.mkdir(parents=True, exist_ok=True)
      paths.download(file, copy)
      self._known[relative] = _state(copy)

  def publish(self) -> None:
    """Copies what changed, and removes what was removed.

    Raises:
      errors.UserError: The bucket refuses.
    """
    if not self._is_remote:
      return
    with self._lock:
      self._published = self._clock()
      present = {file.relative_to(self.folder).as_posix(): file
                 for file in paths.files_below(self.folder)}
      for name, file in present.items():
        state = _state(file)
        if self._known.get(name) != state:
          paths.upload(file, self._target / name)
          self._known[name] = state
      for name in self._known.keys() - present.keys():
        with paths.answered(self._target):
          (self._target / name).unlink(missing_ok=True)
        del self._known[name]

  def publish_later(self) -> None:
    """Publishes in the background, if that was `SECONDS` ago."""
    if not self._is_remote or self._clock() - self._published < SECONDS or (
        self._thread is not None and self._thread.is_alive()):
      return
    self._published = self._clock()
    self._thread = threading.Thread(target=self._try, daemon=True)
    self._thread.start()

  def _try(self) -> None:
    try:
      self.publish()
    except errors.UserError as error:
      logging.getLogger('walt_jax').warning(
          '%s; it is tried again in %g s', error, SECONDS)

  def close(self) -> None:
    """Publishes, and removes the local folder."""
    if not self._is_remote:
      return
    try:
      if self._thread is not None:
        self._thread.join()
      self.publish()
    finally:
      scratch.remove_folder(self.folder)


def _state(file: pathlib.Path) -> tuple[int, int]:
  stat = file.stat()
  return stat.st_size, stat.st_mtime_ns
