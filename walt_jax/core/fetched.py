"""Local copies of files that lie in a bucket, for what reads local files only.

Copies lie in one temporary folder of the process, which is removed when it
ends. Their room is bounded: a copy that would leave less than a gigabyte free
is refused.
"""
import functools
import os
import pathlib
import shutil

from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import scratch

LEAST_FREE = 10**9  # Bytes that stay free beside the copies.


def local(path: str | os.PathLike) -> pathlib.Path:
  """A local file or folder of the content of a path.

  Args:
    path: A local path, which is returned as it is, or one in a bucket. A copy
      is made once: it is for what does not change.

  Raises:
    errors.UserError: There is nothing there, there is no room for a copy, or
      the bucket refuses.
  """
  found = paths.path(path)
  if not paths.is_remote(found):
    return found
  return _copy(_folder(), str(found))


@functools.cache
def _folder() -> pathlib.Path:
  """The folder of this process's copies."""
  return scratch.make_folder('fetched')


@functools.cache
def _copy(folder: pathlib.Path, text: str) -> pathlib.Path:
  source = paths.path(text)
  target = folder / text.removeprefix(paths.SCHEME)
  with paths.answered(source):
    sizes = {file: paths.size(file) for file in paths.files_below(source)}
  if not sizes:
    raise errors.UserError(f'no such file: {text!r}')
  total = sum(sizes.values())
  room = max(0, shutil.disk_usage(folder).free - LEAST_FREE)
  if total > room:
    raise errors.UserError(
        f'{text!r} is read from a local copy, and its {total / 1e9:.1f} GB do '
        f'not fit in {str(folder.parent)!r} ({room / 1e9:.1f} GB free); set '
        'TMPDIR to a larger disk')
  for file in sizes:
    copy = target / file.relative_to(source).as_posix()
    copy.parent.mkdir(parents=True, exist_ok=True)
    paths.download(file, copy)
  return target
