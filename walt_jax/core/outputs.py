"""The one check of what a command is to write, before any work.

What is written must be no input of the same command, no folder where a file is
meant or the other way round, nothing but an earlier result of the same command
and settings, writable, and its disk must have room.
"""
from collections.abc import Iterable, Iterator, Sequence
import contextlib
import dataclasses
import enum
import os
import pathlib
import shutil
import stat

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import made_by as made_by_lib
from walt_jax.core import paths
from walt_jax.core import scratch

LEAST_FREE = 1 << 20  # Bytes; less holds not even one result.


class Kind(enum.Enum):
  """What a command makes of a path that it writes."""
  FILE = 'a file that says what made it'
  CLIPS = 'a folder to which clips are added'
  EXPORT = 'a folder that is replaced as a whole'
  # These know by files of their own what may continue in them.
  OWN = 'a folder with a record of its own'


# Suffixes of what is written to a folder of clips.
_CLIPS = frozenset({'.npy', '.mp4', '.png', '.gif', '.webp'})
_EXPORT = frozenset({'model.safetensors', 'config.json', 'tokenizer',
                     made_by_lib.FOLDER_FILE})


@dataclasses.dataclass(frozen=True)
class Output:
  """One path that a command writes.

  Attributes:
    flag: What names it, such as '--out', for messages.
    path: What the flag was given.
    kind: What will stand there.
  """
  flag: str
  path: str
  kind: Kind

  @property
  def words(self) -> str:
    return f'{self.flag} {self.path}'


def check(outputs: Sequence[Output], inputs: Iterable[str],
          made_by: made_by_lib.MadeBy, *, overwrite: bool = False) -> None:
  """Refuses what could not, or should not, be written at the end.

  Args:
    outputs: All that the command writes.
    inputs: Paths that it reads.
    made_by: What the results will say.
    overwrite: Whether results of other settings, and a file of other content,
      may be replaced.

  Raises:
    errors.UserError: Of the first thing that is wrong.
  """
  inputs = [path for path in inputs if path]
  seen: dict[str, str] = {}
  for output in outputs:
    place = _place(output.path)
    if place in seen and not _is_stream(output.path):
      raise errors.UserError(
          f'{seen[place]} and {output.flag} are both {output.path}; give them '
          'two names')
    seen[place] = output.flag
  for output in outputs:
    _check_inputs(output, inputs)
    if not paths.is_remote(output.path):
      _check_place(output)
    if output.kind is not Kind.OWN:
      _check_content(output, inputs, made_by, overwrite)


def check_room(path: str | os.PathLike, size: int) -> None:
  """Refuses to begin what the disk of a path has no room for.

  Args:
    path: Will be written, of this machine or in a bucket.
    size: Bytes that will be needed at least.

  Raises:
    errors.UserError: There are fewer.
  """
  if paths.is_remote(path):
    return
  folder = _nearest(paths.absolute(path))
  try:
    free = shutil.disk_usage(folder).free
  except OSError:
    return  # Some file systems do not say.
  if free < size:
    raise errors.UserError(
        f'{os.fspath(path)}: its disk has {_bytes(free)} left, and at least '
        f'{_bytes(size)} are needed; make room or choose another place')


def _check_inputs(output: Output, inputs: Sequence[str]) -> None:
  """Refuses to write over what is read."""
  place = _place(output.path)
  for path in inputs:
    if _place(path) == place or _is_same_file(path, output.path):
      raise errors.UserError(
          f'{output.words} is an input of the same command ({path}); choose '
          'another place')
    if output.kind is Kind.EXPORT and _place(path).startswith(f'{place}/'):
      raise errors.UserError(
          f'{output.words} would replace a folder in which an input lies '
          f'({path}); choose another place')


def _check_place(output: Output) -> None:
  """Refuses where nothing can be written, by writing there."""
  path = paths.absolute(output.path)
  if output.kind is Kind.FILE:
    _check_file_place(output, path)
    if _is_stream(path):
      return
    file = files.partial_of(pathlib.Path(os.path.realpath(path)))
  else:
    folder = _nearest(path)
    if not folder.is_dir():
      raise errors.UserError(
          f'{output.words}: {folder} is no folder; choose another place')
    file = files.partial_of(path / 'trial')
  try:
    _try(file)
  except OSError as error:
    raise errors.UserError(
        f'{output.words} cannot be written ({error.strerror or error}); choose '
        'another place, or fix the cause') from error
  check_room(output.path, LEAST_FREE)


def _check_file_place(output: Output, path: pathlib.Path) -> None:
  try:
    mode = path.stat().st_mode
  except FileNotFoundError:
    if not pathlib.Path(os.path.realpath(path)).parent.is_dir():
      raise errors.UserError(
          f'{output.words}: no such folder; make it first') from None
    return
  except OSError as error:
    raise errors.UserError(
        f'{output.words}: {error.strerror or error}; choose another place'
    ) from error
  if stat.S_ISDIR(mode):
    raise errors.UserError(
        f'{output.words} is a folder; give a file in it')
  if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
    raise errors.UserError(
        f'{output.words} is a disk or a socket; give a file')


def _try(file: pathlib.Path) -> None:
  """Writes a little file, with the folders above it, and removes all again.

  Permission bits do not tell: the superuser passes them all, and `/proc`, a
  read-only mount, a full quota or a name that is too long refuses all the same.

  Raises:
    OSError: It is refused.
  """
  missing = [folder for folder in file.parents if not os.path.lexists(folder)]
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    with scratch.partial(file):
      file.write_bytes(bytes(1 << 12))
  finally:
    with contextlib.suppress(OSError):
      file.unlink(missing_ok=True)
    for folder in missing:
      with contextlib.suppress(OSError):  # Another process may write there.
        folder.rmdir()


def _check_content(output: Output, inputs: Sequence[str],
                   made_by: made_by_lib.MadeBy, overwrite: bool) -> None:
  """Refuses to replace what is no earlier result of the same settings."""
  path = paths.path(output.path)
  if not path.exists() or _is_stream(output.path):
    return
  if output.kind is Kind.FILE:
    if not paths.size(path):
      return
  else:
    foreign = next(_foreign(path, output.kind), None)
    if foreign is not None:
      raise errors.UserError(
          f'{output.words} holds other files, such as {foreign!r}; give a new '
          'folder')
    if not _holds_result(path, output.kind):
      return
  earlier = made_by_lib.read(path)
  if earlier is not None and earlier.is_same(made_by):
    return
  if earlier is None and output.kind is Kind.FILE and any(
      _place(output.path).startswith(f'{_place(path)}/') for path in inputs):
    raise errors.UserError(
        f'{output.words} is a file of an input of the same command; choose '
        'another place')
  if not overwrite:
    fix = 'choose another place, or replace it with --overwrite'
    if earlier is None:
      raise errors.UserError(
          f'{output.words} holds other content, or a result that does not say '
          f'what made it: {fix}')
    raise errors.UserError(
        f'{output.words} holds a result of other settings '
        f'({made_by.differs(earlier)}): {fix}')


def _foreign(folder: pathlib.Path, kind: Kind) -> Iterator[str]:
  """Names in a folder that a result of a kind would replace, or mix with."""
  if (folder / made_by_lib.FOLDER_FILE).is_file():
    return
  names = sorted(path.name for path in folder.iterdir())
  if kind is Kind.EXPORT:
    # All that such a folder holds is replaced.
    yield from (name for name in names if name not in _EXPORT)
  elif 'samples.json' not in names:
    yield from (name for name in names
                if pathlib.PurePath(name).suffix.lower() in _CLIPS)


def _holds_result(folder: pathlib.Path, kind: Kind) -> bool:
  names = {path.name for path in folder.iterdir()}
  return bool(names) if kind is Kind.EXPORT else bool(
      names & {'samples.json', made_by_lib.FOLDER_FILE})


def _nearest(path: pathlib.Path) -> pathlib.Path:
  """A path, or the first of the folders above it that is there."""
  while not os.path.lexists(path) and path != path.parent:
    path = path.parent
  return path


def _place(path: str) -> str:
  """One name for each file, without a slash at its end."""
  if paths.is_remote(path):
    return path.rstrip('/')
  return os.path.realpath(path)


def _is_same_file(first: str, second: str) -> bool:
  """Whether two paths are one file by two names."""
  if paths.is_remote(first) or paths.is_remote(second):
    return False
  try:
    return os.path.samefile(first, second)
  except (OSError, ValueError):
    return False


def _is_stream(path: str | os.PathLike) -> bool:
  return not paths.is_remote(path) and files.is_stream(path)


def _bytes(size: int) -> str:
  return f'{size / (1 << 20):,.1f} MiB'
