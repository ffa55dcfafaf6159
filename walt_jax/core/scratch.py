"""Files and folders that may not outlive the process that makes them.

Context managers remove them when their body ends. A process that cannot wait
for that (`core/interrupts.py`) calls `remove_all`; a temporary folder that a
killed process left is removed by the next one that makes another.
"""
import atexit
from collections.abc import Iterator
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import tempfile
import time

from walt_jax.core import paths

_PREFIX = '.walt-scratch-'
# As `tempfile` makes them of the prefix. What a user names is never removed.
_NAME = re.compile(rf'{re.escape(_PREFIX)}[a-z]+-[a-z0-9_]{{8}}')
# Younger ones may not be locked yet.
_ABANDONED_SECONDS = 60.0

# What the process is making now. Signals concern the whole process, and so
# does this.
_PARTIAL: set[str] = set()
# Folders with an open descriptor that locks each, so that others know that
# their process lives.
_FOLDERS: dict[str, int] = {}


@contextlib.contextmanager
def partial(path: str | os.PathLike) -> Iterator[None]:
  """Lets `remove_all` remove a path while the body makes it."""
  name = os.fspath(path)
  _PARTIAL.add(name)
  try:
    yield
  finally:
    _PARTIAL.discard(name)


@contextlib.contextmanager
def folder(name: str) -> Iterator[pathlib.Path]:
  """Yields a temporary folder, removed with all that is in it.

  Args:
    name: What it is for, a part of its name: small letters.
  """
  path = make_folder(name)
  try:
    yield path
  finally:
    remove_folder(path)


def make_folder(name: str) -> pathlib.Path:
  """Makes a folder that lives until `remove_folder` or the process's end."""
  _remove_abandoned()
  path = tempfile.mkdtemp(prefix=f'{_PREFIX}{name}-')
  _FOLDERS[path] = os.open(path, os.O_RDONLY)
  fcntl.flock(_FOLDERS[path], fcntl.LOCK_EX)
  # Processes that were forked leave it to the one that made it.
  atexit.register(_remove_of, path, os.getpid())
  return paths.path(path)


def remove_folder(path: str | os.PathLike) -> None:
  """Removes a folder of `make_folder`; one that has gone is no fault."""
  name = os.fspath(path)
  shutil.rmtree(name, ignore_errors=True)
  lock = _FOLDERS.pop(name, None)
  if lock is not None:
    os.close(lock)


def remove_all() -> None:
  """Removes whatever is being made; the process ends right after it."""
  for name in [*_PARTIAL, *_FOLDERS]:
    if os.path.isdir(name):
      shutil.rmtree(name, ignore_errors=True)
    else:
      with contextlib.suppress(OSError):
        os.unlink(name)


def _remove_of(name: str, owner: int) -> None:
  if os.getpid() == owner and name in _FOLDERS:
    remove_folder(name)


def _remove_abandoned() -> None:
  """Removes folders of processes that were killed."""
  with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as found:
    for entry in found:
      if _NAME.fullmatch(entry.name):
        with contextlib.suppress(OSError):
          _remove_if_abandoned(entry.path)


def _remove_if_abandoned(name: str) -> None:
  status = os.lstat(name)
  if (status.st_uid != os.getuid()
      or time.time() - status.st_mtime < _ABANDONED_SECONDS):
    return
  lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    shutil.rmtree(name, ignore_errors=True)
  finally:
    os.close(lock)
