"""Paths of files and folders: of this machine, or in a Google Cloud bucket.

A path of this machine stays a `pathlib.Path`. `gs://BUCKET/..` becomes a path
of etils, which answers to the same methods and reads and writes the bucket.
Everything else that looks like a URL is refused, so that no command writes to
a local folder of such a name.

In a bucket there are no folders, only objects whose names begin alike: nothing
is renamed, an object appears whole or not at all, and none can be appended to.
"""
from collections.abc import Iterator
import contextlib
import functools
import logging
import os
import pathlib
import re
import shutil
import sys
import threading
from typing import Any
import uuid

from walt_jax.core import errors
from walt_jax.core import extras

# Where TensorFlow is installed, etils would let it open buckets: it takes
# seconds to import, and its errors are others. One library opens them. Orbax
# uses etils too, which looks once.
os.environ.setdefault('EPATH_USE_TF', 'false')

SCHEME = 'gs://'
# Of Linux; of a bucket, 1,024 bytes in all.
_MOST_NAME, _MOST_LENGTH = 255, 4_095
# The most that is waited for a bucket to answer, before anything runs.
REACH_SECONDS = 45.0
_SILENT_SECONDS = 3.0  # Before it is said what is waited for.

# 'C:/x' is no path of the systems that this runs on; 'data:/x' may be one, but
# is refused too: './data:/x' says what is meant.
_URL = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*):/')
_BUCKET = re.compile(r'[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]')
# Of names of objects: libraries take them for patterns or versions.
_UNSAFE = re.compile(r'[*?#\[\]\x00-\x1f\x7f]')
# Modules whose errors say what a bucket refuses, or that it does not answer.
_OPENERS = ('gcsfs.', 'aiohttp.', 'google.auth.', 'google.api_core.',
            'google.cloud.')


def path(text: str | os.PathLike) -> pathlib.Path:
  """The path that a user means.

  Args:
    text: A local path or `gs://BUCKET/..`.

  Returns:
    A `pathlib.Path`, or etils' path of a bucket, which has the methods used.

  Raises:
    errors.UserError: It is of another form, or what opens buckets is absent.
  """
  text = os.fspath(text)
  check(text)
  if not is_remote(text):
    return pathlib.Path(text)
  with extras.needed('gcs', repr(text), 'gcsfs'):
    epath, _ = _libraries()
    return epath.Path(text)


def is_remote(text: str | os.PathLike) -> bool:
  """Whether a path lies in a bucket."""
  return os.fspath(text).startswith(SCHEME)


def check(text: str) -> None:
  """Refuses what is neither a local path nor one in a bucket.

  Raises:
    errors.UserError: It is of another form.
  """
  if '\0' in text:
    raise errors.UserError(
        f'{errors.short(text)} holds a NUL character, which no path does')
  names = os.fsencode(text).split(b'/')
  if len(text) > _MOST_LENGTH or max(map(len, names)) > _MOST_NAME:
    raise errors.UserError(
        f'{errors.short(text)} is too long for a path: names have at most '
        f'{_MOST_NAME} bytes, and all together {_MOST_LENGTH}')
  match = _URL.match(text)
  if match is None:
    return
  if not text.startswith(SCHEME):
    scheme = match[1]
    hint = (f'write {SCHEME}BUCKET/..' if scheme.lower() == 'gs' else
            f'copy or mount it, or write ./{text} for a local path')
    raise errors.UserError(
        f'{text!r} is neither a local path nor {SCHEME}BUCKET/..: '
        f'{scheme}: is not read or written; {hint}')
  bucket, _, name = text.removeprefix(SCHEME).partition('/')
  if not _BUCKET.fullmatch(bucket):
    raise errors.UserError(
        f'{text!r} names no bucket: a name has 3 or more of a-z, 0-9, ".", '
        f'"_" and "-"; write {SCHEME}BUCKET/FOLDER')
  if _UNSAFE.search(name) or '..' in name.split('/'):
    raise errors.UserError(
        f'{text!r}: a path in a bucket holds no "..", "*", "?", "#", "[", "]" '
        'or control character; choose another name')


def parent(of: str | os.PathLike) -> pathlib.Path:
  """The folder of a path, absolute."""
  return absolute(of).parent


def absolute(of: str | os.PathLike) -> pathlib.Path:
  """A path that does not depend on the present folder."""
  found = path(of)
  return found if is_remote(found) else found.absolute()


def make_folder(folder: str | os.PathLike) -> pathlib.Path:
  """Makes a folder and those above it, where there are folders."""
  found = path(folder)
  if not is_remote(found):
    found.mkdir(parents=True, exist_ok=True)
  return found


def size(of: pathlib.Path) -> int:
  """Bytes of a file."""
  stat: Any = of.stat()
  return stat.length if is_remote(of) else stat.st_size


def remove_tree(folder: pathlib.Path) -> None:
  """Removes a folder with all that it holds; none is fine, too."""
  if not is_remote(folder):
    shutil.rmtree(folder, ignore_errors=True)
    return
  with answered(folder), contextlib.suppress(FileNotFoundError):
    _bucket(folder).rm(str(folder), recursive=True)


def files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """All files of a folder and of those in it, sorted."""
  if is_remote(folder):
    for name in sorted(_bucket(folder).find(str(folder))):
      if not name.endswith('/'):  # An object that stands for a folder.
        yield path(SCHEME + name)
    return
  yield from sorted(file for file in folder.rglob('*') if file.is_file())


def versions(below: pathlib.Path) -> list[tuple[str, int, str]]:
  """Names, sizes and versions of a bucket's file, or of a folder's files."""
  with answered(below):
    found = _bucket(below).find(str(below), detail=True)
  return [(name, entry['size'], str(entry.get('generation', '')))
          for name, entry in sorted(found.items())]


def upload(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a local file to an object of a bucket, which appears whole."""
  with answered(target):
    _bucket(target).put_file(str(source), str(target))


def upload_bytes(data: bytes, target: pathlib.Path) -> None:
  """Writes an object of a bucket, which appears whole."""
  with answered(target):
    _bucket(target).pipe_file(str(target), data)


def upload_if(data: bytes, target: pathlib.Path, generation: int) -> int | None:
  """Writes an object of a bucket if it is of this version.

  Args:
    data: What to write.
    target: The object.
    generation: Version that must be there; 0: none may be.

  Returns:
    The new version; None where another is there.
  """
  opener = _bucket(target)
  bucket, _, name = os.fspath(target).removeprefix(SCHEME).partition('/')
  with answered(target):
    try:
      told = opener.call(
          'POST', f'{opener._location}/upload/storage/v1/b/{bucket}/o',
          uploadType='media', name=name, ifGenerationMatch=str(generation),
          data=data, json_out=True)
    except FileExistsError:  # So gcsfs calls a condition that does not hold.
      return None
  return int(told['generation'])


def download(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a file, of a bucket or a local one, to a local file."""
  if not is_remote(source):
    shutil.copyfile(source, target)
    return
  with answered(source):
    _bucket(source).get_file(str(source), str(target))


def move(source: pathlib.Path, target: pathlib.Path) -> None:
  """Gives a file another name; in a bucket, copies it there and removes it."""
  if not is_remote(target):
    os.replace(source, target)
    return
  with answered(target):
    _bucket(target).cp_file(str(source), str(target))
    _bucket(target).rm_file(str(source))


def move_tree(source: pathlib.Path, target: pathlib.Path) -> None:
  """Gives a file or a folder another name, beside or below."""
  if not is_remote(source):
    os.replace(source, target)
    return
  inside = list(files_below(source))
  for file in inside or [source]:
    move(file, target / file.relative_to(source).as_posix() if inside
         and file != source else target)


def _bucket(of: str | os.PathLike) -> Any:
  """What opens the bucket of a path; each process has its own."""
  del of  # All are Google Cloud's.
  _, fsspec = _libraries()
  return fsspec.filesystem('gcs')


@functools.cache
def _libraries() -> tuple[Any, Any]:
  """etils' paths and fsspec, which take long to import."""
  # gcsfs would ask of which kind a bucket is, at every call, and warn where
  # that is not allowed; no more than what all kinds have is used here.
  os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
  from etils import epath
  import fsspec
  import gcsfs  # noqa: F401 - what fsspec opens them with.
  # Listings are read anew: other processes write to the same folders.
  for protocol in ('gcs', 'gs'):
    fsspec.config.conf.setdefault(protocol, {}).setdefault(
        'use_listings_cache', False)
  return epath, fsspec


@contextlib.contextmanager
def answered(of: str | os.PathLike) -> Iterator[None]:
  """Where a bucket is read or written: makes one line of what it refuses.

  Raises:
    errors.UserError: The bucket cannot be reached, or refuses.
  """
  try:
    yield
  except FileNotFoundError:
    raise
  except Exception as error:
    if is_remote(of) and (is_refusal(error) or isinstance(error, OSError)):
      raise errors.UserError(refusal(os.fspath(of), error)) from error
    raise


def is_refusal(error: BaseException) -> bool:
  """Whether an error is of a library that opens buckets."""
  return type(error).__module__.startswith(_OPENERS)


def refusal(of: str, error: BaseException) -> str:
  """One line about a bucket that does not answer, or refuses."""
  words = ' '.join(str(error).split()) or type(error).__name__
  return (f'{of!r} cannot be reached: {words[:200]}; check the name of the '
          'bucket, the network and your credentials (`gcloud auth '
          'application-default login`)')


def reach(text: str, *, write: bool, seconds: float = REACH_SECONDS) -> None:
  """Asks for the bucket of a path, before anything runs.

  Writing is tried by an empty object beside, which is removed again.

  Args:
    text: A path; nothing is asked for a local one.
    write: Whether it will be written.
    seconds: The most to wait.

  Raises:
    errors.UserError: The bucket does not answer, or refuses.
  """
  found = path(text)
  if not is_remote(found):
    return
  outcome: list[BaseException | None] = []

  logger = logging.getLogger('gcsfs')  # It logs what is told in one line.
  level = logger.level

  def ask() -> None:
    try:
      logger.setLevel(logging.CRITICAL + 1)
      _ask(found, write)
      outcome.append(None)
    except BaseException as error:  # pylint: disable=broad-except
      outcome.append(error)
    finally:
      logger.setLevel(level)

  # A library may try again for minutes; it is not waited for.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(min(_SILENT_SECONDS, seconds))
  if thread.is_alive():
    print(f'walt: waiting for {text!r} to answer, at most {seconds:g} s ..',
          file=sys.stderr, flush=True)
    thread.join(max(0.0, seconds - _SILENT_SECONDS))
  error = outcome[0] if outcome else TimeoutError(
      f'no answer within {seconds:g} s')
  if error is not None:
    raise errors.UserError(refusal(text, error)) from error


def _ask(found: pathlib.Path, write: bool) -> None:
  """Raises what the bucket refuses with."""
  bucket = _bucket(found)
  name, _, prefix = str(found).removeprefix(SCHEME).partition('/')
  try:
    bucket.call('GET', 'b/{}/o', name, prefix=prefix, maxResults=1,
                json_out=True)
  except FileNotFoundError as error:
    raise OSError(f'there is no bucket {name!r}') from error
  if write:
    trial = f'{found}.trial-{uuid.uuid4().hex}'
    bucket.pipe_file(trial, b'')
    with contextlib.suppress(Exception):  # It may write and not remove.
      bucket.rm_file(trial)
