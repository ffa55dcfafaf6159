"""The secret that the hosts of a run share, and proofs of knowing it.

It is in the environment (`WALT_TOKEN`), or in a file of the work directory,
which process 0 makes and nobody but the user may read. It is never sent: each
end proves by HMAC that it knows it, over random numbers of both.
"""
from collections.abc import Mapping
import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import pathlib
import secrets
import stat
from typing import Any

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import run_files

TOKEN = 'WALT_TOKEN'
_LEAST = 16  # Characters.
_FIX = (f'set {TOKEN} to the same random text on every host, such as '
        '`openssl rand -hex 32` prints')


@dataclasses.dataclass(frozen=True)
class Secret:
  """Where a run's secret is.

  Attributes:
    token: The secret itself, '' where it is in the file.
    folder: The folder with its file, or None.
    name: File name; runs that share a folder each have their own.
  """
  token: str
  folder: pathlib.Path | None
  name: str

  def read(self) -> bytes | None:
    """The secret; None while there is no file.

    Raises:
      UserError: Others than the user may read the file.
    """
    if self.token:
      return self.token.encode()
    path = self.file
    try:
      if not paths.is_remote(path):
        _check(path)
      return path.read_bytes() or None
    except FileNotFoundError:
      return None
    except OSError as e:
      raise errors.UserError(
          f'the secret of the run cannot be read from {str(path)!r}: '
          f'{e.strerror}; {_FIX}') from e

  @property
  def file(self) -> pathlib.Path:
    assert self.folder is not None
    return self.folder / self.name

  @contextlib.contextmanager
  def made(self):
    """Makes the file, where it is needed, for as long as the body runs."""
    if self.token:
      yield
      return
    assert self.folder is not None
    is_new = not self.folder.exists()
    try:
      paths.make_folder(self.folder)
      if self.read() is None:  # Else of a run that was killed.
        _write(self.file, secrets.token_hex(32))
    except (OSError, errors.UserError) as e:
      raise errors.UserError(
          'the secret of the run cannot be written to '
          f'{str(self.file)!r}; {_FIX}') from e
    try:
      yield
    finally:
      with contextlib.suppress(OSError):
        self.file.unlink(missing_ok=True)
        if is_new:
          self.folder.rmdir()  # Unless the run has written there.


def find(environment: Mapping[str, str],
         folder: str | os.PathLike | None, coordinator: str) -> Secret:
  """Where the secret of a run is.

  Args:
    environment: Environment variables of the process.
    folder: A folder that all hosts of the run share, or None.
    coordinator: The run's, by which the file is named.

  Raises:
    UserError: There is none, or it is too short.
  """
  token = environment.get(TOKEN, '')
  if token and len(token) < _LEAST:
    raise errors.UserError(
        f'{TOKEN} has {len(token)} characters; it needs at least {_LEAST}: '
        f'{_FIX}')
  if not token and folder is None:
    raise errors.UserError(
        f'several hosts need a secret that they share; {_FIX}')
  return Secret(
      token, None if folder is None else paths.path(folder),
      f'{run_files.TOKEN}-'
      f'{hashlib.sha256(coordinator.encode()).hexdigest()[:12]}')


def _write(path: pathlib.Path, text: str) -> None:
  if paths.is_remote(path):
    files.write_text(path, text)
    return
  # Complete where it appears, and never readable to others.
  partial = path.with_name(f'{path.name}.{secrets.token_hex(8)}')
  file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  try:
    os.write(file, text.encode())
  finally:
    os.close(file)
  partial.replace(path)


def _check(path: pathlib.Path) -> None:
  status = path.stat()
  if stat.S_IMODE(status.st_mode) & 0o077:
    raise errors.UserError(
        f'others may read the secret of the run, {str(path)!r}; remove it, or '
        f'{_FIX}')
  if status.st_uid != os.geteuid():
    raise errors.UserError(
        f'the secret of the run, {str(path)!r}, belongs to user '
        f'{status.st_uid}; remove it, or {_FIX}')


def nonce() -> str:
  """A random number, used once."""
  return secrets.token_hex(16)


def proof(secret: bytes, who: str, *said: Any) -> str:
  """Proves that `who` knows the secret, and stands for what is said."""
  return hmac.new(secret, json.dumps([who, *said]).encode(),
                  hashlib.sha256).hexdigest()


def proves(secret: bytes, found: Any, who: str, *said: Any) -> bool:
  """Whether a proof is one."""
  return isinstance(found, str) and hmac.compare_digest(
      found.encode(), proof(secret, who, *said).encode())
