"""One writer of a folder at a time: a lease that names its holder.

`FOLDER/N.json` names a holder; the one of the largest N has the lease. A
newcomer creates the file of N + 1, which one alone can; the holder writes its
own anew every ten seconds, and removes it at the end. In a bucket both are
conditional writes.

A holder on this host that has ended is replaced at once, one that is alive
after a moment's grace is not. Of one on another host nothing is known but
whether it writes: clocks are not compared.
"""
from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import socket
import threading
import time
from typing import Any
import uuid

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import json_text
from walt_jax.core import paths

RENEW_SECONDS = 10.0
# Without a sign of a holder on another host, until it counts as gone.
SILENT_SECONDS = 60.0
# For a holder on this host that has been told to end.
GRACE_SECONDS = 10.0
_LOOK_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Holder:
  """Who has a lease.

  Attributes:
    run: Random name of the run.
    host: Name of the host.
    boot: What tells starts of the host, and hosts of one name, apart.
    pid: Process of the host.
    began: When that process began, in ticks since the host did: numbers of
      processes come again. None where the system does not tell.
    renewed: How often the lease was renewed.
    wrote: When it was renewed, for people.
  """
  run: str
  host: str
  boot: str
  pid: int
  began: int | None
  renewed: int = 0
  wrote: str = ''

  @classmethod
  def this(cls) -> 'Holder':
    """This process."""
    return cls(uuid.uuid4().hex, socket.gethostname(), _boot(), os.getpid(),
               _began(os.getpid()))

  def words(self) -> str:
    """Such as 'process 312 on host a'."""
    return f'process {self.pid} on host {self.host}'

  def is_here(self) -> bool:
    """Whether this host can tell if the holder is alive."""
    return (self.host, self.boot) == (socket.gethostname(), _boot())

  def is_alive(self) -> bool:
    """Whether the process exists; for a holder on this host."""
    if self.began is not None:
      return _began(self.pid) == self.began
    try:
      os.kill(self.pid, 0)
    except ProcessLookupError:
      return False
    except PermissionError:
      pass
    return True


@functools.cache
def _boot() -> str:
  """Names this start of this host, and what numbers its processes."""
  parts = []
  with contextlib.suppress(OSError):
    with open('/proc/sys/kernel/random/boot_id') as file:
      parts.append(file.read().strip())
    # Containers of one host number their processes apart.
    parts.append(os.readlink('/proc/self/ns/pid'))
  return ' '.join(parts)


def _began(pid: int) -> int | None:
  """When a process began; None where there is none, or it has ended."""
  try:
    with open(f'/proc/{pid}/stat') as file:
      text = file.read()
  except OSError:
    return None
  state, *rest = text.rpartition(')')[2].split()
  return None if state in 'ZX' else int(rest[18])


class Lease:
  """The lease of a folder, renewed by a thread until it is released."""

  def __init__(self, file: pathlib.Path, holder: Holder, generation: int,
               made: Sequence[pathlib.Path]):
    """Begins to renew a lease that was just taken.

    Args:
      file: Its file.
      holder: What the file holds.
      generation: Version of the file, where it lies in a bucket.
      made: Folders that were made for it, the innermost first.
    """
    self._file, self._holder, self._generation = file, holder, generation
    self._made = made
    self._lost = ''
    self._ended = threading.Event()
    # Nobody waits for it, and it must not keep a process that ends.
    self._thread = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  def check(self, *, now: bool = False) -> None:
    """Asks whether the lease is still held.

    Args:
      now: Whether to look at the files; else what the last look found counts.

    Raises:
      UserError: Another run has taken it.
    """
    if now:
      self._look()
    if self._lost:
      raise errors.UserError(
          f'{self._file.parent.parent} was taken over by {self._lost}: this '
          'run was not seen for a while, and ends; that one continues')

  def release(self) -> None:
    """Gives the lease back; a lease that was lost stays its holder's."""
    self._ended.set()
    self._thread.join()
    self._look()
    if not self._lost:
      with contextlib.suppress(OSError, errors.UserError):
        self._file.unlink()
      if not paths.is_remote(self._file):
        # A command that was refused leaves nothing behind.
        with contextlib.suppress(OSError):
          for folder in self._made or [self._file.parent]:
            folder.rmdir()

  def _look(self) -> None:
    found = _newest(self._file.parent)
    if found is None:
      self._lost = self._lost or 'another run, which has ended'
    elif found.holder is None or found.holder.run != self._holder.run:
      self._lost = self._lost or found.words

  def _work(self) -> None:
    while not self._ended.wait(RENEW_SECONDS) and not self._lost:
      # A file system that fails for a while is tried again.
      with contextlib.suppress(OSError, errors.UserError):
        self._look()
        if not self._lost:
          self._renew()

  def _renew(self) -> None:
    self._holder = _now(dataclasses.replace(
        self._holder, renewed=self._holder.renewed + 1))
    if not paths.is_remote(self._file):
      files.write_bytes(self._file, _bytes(self._holder))
      return
    generation = paths.upload_if(
        _bytes(self._holder), self._file, self._generation)
    if generation is None:
      self._look()
    else:
      self._generation = generation


@dataclasses.dataclass(frozen=True)
class _Found:
  """A file of a lease.

  Attributes:
    number: Its number.
    text: What it holds.
    holder: Who wrote it; None where that cannot be read.
  """
  number: int
  text: str
  holder: Holder | None

  @property
  def is_here(self) -> bool:
    """Whether this host can tell if the holder is alive."""
    return self.holder is not None and self.holder.is_here()

  @property
  def words(self) -> str:
    """Such as 'process 312 on host a'."""
    return self.holder.words() if self.holder else 'another run'


def _newest(folder: pathlib.Path) -> _Found | None:
  """The file of the present holder, if there is one."""
  while numbers := _numbers(folder):
    number = max(numbers)
    try:
      text = (folder / f'{number}.json').read_text()
    except FileNotFoundError:
      continue  # Released or replaced meanwhile: look again.
    try:
      holder = Holder(**json_text.loads(text))
    except (ValueError, TypeError):
      holder = None
    return _Found(number, text, holder)
  return None


def _numbers(folder: pathlib.Path) -> set[int]:
  """Numbers of the files of a lease."""
  if paths.is_remote(folder):
    names = [file.name for file in paths.files_below(folder)]
  else:
    names = os.listdir(folder) if folder.is_dir() else []
  return {int(stem) for stem, dot, kind in (
      name.partition('.') for name in names)
          if stem.isdigit() and kind == 'json'}


def _now(holder: Holder) -> Holder:
  return dataclasses.replace(
      holder, wrote=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()))


def _bytes(holder: Holder) -> bytes:
  return (json.dumps(dataclasses.asdict(holder)) + '\n').encode()


def _create(file: pathlib.Path, holder: Holder) -> int | None:
  """Writes a file that is not there yet.

  Returns:
    Its version in a bucket, else 0; None where somebody else was first.
  """
  if paths.is_remote(file):
    return paths.upload_if(_bytes(holder), file, 0)
  with files.explained(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_name(f'.{file.name}.{holder.run}')
    try:
      whole.write_bytes(_bytes(holder))
      try:
        os.link(whole, file)
      except FileExistsError:
        return None
      except OSError:  # A file system without links.
        try:
          with open(file, 'xb') as target:
            target.write(_bytes(holder))
        except FileExistsError:
          return None
    finally:
      with contextlib.suppress(OSError):
        whole.unlink()
  return 0


def take(folder: str | os.PathLike, what: str,
         say: Callable[[str], Any]) -> Lease:
  """Takes the lease of a folder, waiting for a holder that may be gone.

  Args:
    folder: Where the files of the lease lie.
    what: What is written under it, for messages.
    say: Called with a line before it waits.

  Raises:
    UserError: Another holder is alive.
  """
  found_in, own = paths.absolute(folder), _now(Holder.this())
  seen: _Found | None = None
  since, said = time.monotonic(), False
  while True:
    found = _newest(found_in)
    if found is None or seen is None or found.number != seen.number:
      seen, since = found, time.monotonic()
    waited = time.monotonic() - since
    if found is None or _is_gone(found, waited):
      lease = _created(found_in, found.number + 1 if found else 1, own)
      if lease is not None:
        return lease
      continue  # Somebody else was first: look who.
    assert seen is not None
    if found.is_here and waited > GRACE_SECONDS or (
        not found.is_here and found.text != seen.text):
      raise errors.UserError(
          f'{what} is in use by {found.words}, which is alive; wait for its '
          f'end, or stop it there: kill {found.holder.pid}' if found.holder else
          f'{what} is in use by another run; wait for its end')
    if not said:
      said = True
      say(f'{what} is in use by {found.words}; waiting up to '
          f'{GRACE_SECONDS:.0f} s for its end' if found.is_here else
          f'{what} was in use by {found.words}; waiting {SILENT_SECONDS:.0f} s '
          'for a sign of it')
    time.sleep(_LOOK_SECONDS)


def _is_gone(found: _Found, waited: float) -> bool:
  """Whether the holder has ended, as far as can be known."""
  if found.is_here:
    return not found.holder.is_alive()
  return waited > SILENT_SECONDS


def _created(folder: pathlib.Path, number: int, own: Holder) -> Lease | None:
  """The lease of this number; None where somebody else was first."""
  made = [] if paths.is_remote(folder) else [
      one for one in (folder, *folder.parents) if not one.exists()]
  file = folder / f'{number}.json'
  generation = _create(file, own)
  if generation is None:
    return None
  for older in _numbers(folder):
    if older < number:  # Of holders before, who are gone.
      with contextlib.suppress(OSError, errors.UserError):
        (folder / f'{older}.json').unlink()
  if not paths.is_remote(folder):
    files.remove_partial_files(
        folder, lambda name: name.partition('.')[0] != str(number))
  return Lease(file, own, generation, made)
