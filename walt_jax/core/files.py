"""Files and folders that appear whole or not at all; hashes; JSON.

All paths may lie in a bucket (`core/paths.py`).
"""
from collections.abc import Callable, Iterator
import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import stat
import sys
from typing import Any, BinaryIO
import uuid

from walt_jax.core import errors
from walt_jax.core import json_text
from walt_jax.core import paths
from walt_jax.core import scratch

_PARTIAL = '.partial-'
_STANDARD = dict(stdin=0, stdout=1, stderr=2)
_DESCRIPTOR = re.compile(
    '/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/([0-9]+)')
_MAX_NAME = 200  # Bytes; what is added to names has room in 255.


@contextlib.contextmanager
def explained(path: str | os.PathLike) -> Iterator[None]:
  """Makes a `UserError` of a failure to write `path`, such as a full disk."""
  try:
    yield
  except OSError as error:
    raise errors.UserError(
        f'cannot write {os.fspath(path)!r}: {error}; make room or fix the '
        'cause, and run the same command again') from error


@contextlib.contextmanager
def replaced_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a temporary path that takes the place of `path` at the end.

  The temporary file lies beside the target under a name that no other process
  uses, on this host or on another. It reaches the disk before it is renamed,
  so that a crash of the machine leaves the old file or the new one. If the
  body raises, the old file stays. A body that writes no file replaces none.

  The temporary file of one in a bucket is local, and uploaded at the end; so
  is that of a device or a pipe, which is written through and never replaced.

  Raises:
    errors.UserError: The disk, or the bucket, failed after the body.
  """
  if paths.is_remote(path) or is_stream(path):
    with scratch.folder('upload') as folder:
      target = paths.path(path)
      partial = folder / target.name
      yield partial
      if partial.exists():
        if paths.is_remote(path):
          paths.upload(partial, target)
        else:
          _write_through(target, partial.read_bytes())
    return
  path = pathlib.Path(os.path.realpath(path))
  partial = partial_of(path)
  try:
    with scratch.partial(partial):
      yield partial
    with explained(path):
      if partial.exists():
        _sync(partial)
        partial.replace(path)
  finally:
    # A disk that fails must not hide the error that the body raised.
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)


def partial_of(path: pathlib.Path) -> pathlib.Path:
  """A name beside a file that no other process uses."""
  return path.with_name(f'.{path.name}{_PARTIAL}{uuid.uuid4().hex}')


def _sync(path: pathlib.Path) -> None:
  with open(path, 'rb+') as file:
    os.fsync(file.fileno())


def remove_partial_files(
    folder: str | os.PathLike,
    chosen: Callable[[str], bool] = lambda name: True) -> None:
  """Removes what killed writers left.

  Args:
    folder: Where they wrote.
    chosen: Whether nobody can be writing the file of that name now.
  """
  if paths.is_remote(folder):
    return  # An object appears whole or not at all.
  for path in pathlib.Path(folder).glob(f'.*{_PARTIAL}*'):
    if chosen(path.name[1:].partition(_PARTIAL)[0]):
      with contextlib.suppress(OSError):
        path.unlink()


def is_stream(path: str | os.PathLike) -> bool:
  """Whether a local path is a device, a pipe or a descriptor of this process.

  `/dev/stdout` is one even where it leads to a file: to replace that file
  would lose what else is printed to it.
  """
  path = pathlib.Path(path)
  if _descriptor(path) is not None:
    return True
  try:
    mode = path.stat().st_mode
  except OSError:
    return False
  return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _descriptor(path: pathlib.Path) -> int | None:
  """The number of `/dev/stdout`, `/dev/stderr`, `/dev/fd/N` and the like."""
  match = _DESCRIPTOR.fullmatch(os.path.normpath(path.absolute()))
  if match is None:
    return None
  return _STANDARD[match[1]] if match[1] else int(match[2])


def _write_through(path: pathlib.Path, data: bytes) -> None:
  with explained(path):
    number = _descriptor(path)
    if number is None:
      path.write_bytes(data)
      return
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.dup(number), 'wb') as file:
      file.write(data)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file whole or not at all; devices and pipes directly.

  Raises:
    errors.UserError: It cannot be written; a full disk, for one.
  """
  path = paths.path(path)
  if paths.is_remote(path):
    paths.upload_bytes(data, path)
    return
  if is_stream(path):
    _write_through(path, data)
    return
  with explained(path):
    with replaced_file(path) as partial:
      partial.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes text as UTF-8, whole or not at all."""
  write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, value: Any, *,
               sort_keys: bool = False) -> None:
  """Writes JSON for people and programs to read, whole or not at all."""
  text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=sort_keys)
  # Lone surrogates, which stand for undecodable bytes of a file's name, become
  # \udcXX, which JSON reads back as what it was.
  write_bytes(path, (text + '\n').encode(errors='backslashreplace'))


def read_json(path: str | os.PathLike) -> Any:
  """Reads a JSON file.

  Raises:
    errors.UserError: There is no such file, or it is not JSON.
  """
  try:
    with paths.answered(path):
      return json_text.loads(paths.path(path).read_text(encoding='utf-8'))
  except FileNotFoundError:
    raise errors.UserError(f'no such file: {os.fspath(path)!r}') from None
  except OSError as error:
    raise errors.UserError(
        f'cannot read {os.fspath(path)!r}: {error}') from None
  except ValueError as error:
    raise errors.UserError(
        f'{os.fspath(path)!r} is not JSON: {error}') from None


def read_json_object(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a JSON file that holds an object.

  Raises:
    errors.UserError: There is no such file, or it holds something else.
  """
  value = read_json(path)
  if not isinstance(value, dict):
    raise errors.UserError(
        f'{os.fspath(path)!r} holds {errors.short(value)}, not an object')
  return value


def is_name(name: str) -> bool:
  """Whether a text from elsewhere can be the name of a file of a folder."""
  if name in ('', '.', '..') or '/' in name or '\0' in name:
    return False
  try:
    return len(os.fsencode(name)) <= _MAX_NAME
  except UnicodeEncodeError:  # A lone surrogate that stands for no byte.
    return False


def opened(path: str | os.PathLike) -> BinaryIO:
  """Opens a file that is read in any order; one of a bucket is read whole."""
  found = paths.path(path)
  if not paths.is_remote(found):
    return open(found, 'rb')
  with paths.answered(found):
    return io.BytesIO(found.read_bytes())


@contextlib.contextmanager
def replaced_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields an empty folder that takes the place of `path` at the end.

  Only one process may write a folder at a time. If the body raises, the old
  folder stays as it was. What a killed run left is removed by the next one.

  In a bucket files are replaced one by one at the end, JSON files last, and
  then those removed that are no longer there: whoever reads meanwhile may see
  some of both.

  Raises:
    errors.UserError: The folder cannot be made or replaced.
  """
  if paths.is_remote(path):
    with scratch.folder('upload') as folder:
      yield folder
      _replace_remote(paths.path(path), folder)
    return
  path = pathlib.Path(os.path.realpath(path))
  partial = path.with_name(f'.{path.name}.partial')
  old = path.with_name(f'.{path.name}.old')
  with explained(path):
    if old.exists() and not path.exists():
      old.rename(path)  # A run was killed between the two renames below.
    for rest in (partial, old):
      shutil.rmtree(rest, ignore_errors=True)
    partial.mkdir(parents=True)
  try:
    with scratch.partial(partial):
      yield partial
    with explained(path):
      for file in partial.rglob('*'):
        if file.is_file():
          _sync(file)
      if path.exists():
        path.rename(old)
      partial.rename(path)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  shutil.rmtree(old, ignore_errors=True)


def _replace_remote(target: pathlib.Path, folder: pathlib.Path) -> None:
  """Makes a bucket's folder hold the files of a local one, and no others."""
  old = set(paths.files_below(target))
  new = [target / file.relative_to(folder).as_posix()
         for file in paths.files_below(folder)]
  for file in sorted(new, key=lambda file: file.suffix == '.json'):
    paths.upload(folder / file.relative_to(target).as_posix(), file)
  for file in old - set(new):
    with paths.answered(file):
      file.unlink(missing_ok=True)


def file_sha256(*parts: str | os.PathLike) -> str:
  """Returns the sha256 of a file, or of several one after another."""
  digest = hashlib.sha256()
  for path in parts:
    with paths.path(path).open('rb') as file:
      hashlib.file_digest(file, lambda: digest)
  return digest.hexdigest()


def json_sha256(value: Any) -> str:
  """Returns the sha256 of a JSON value, whatever the order of its keys."""
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
