"""Writing sharded ArrayRecord sets that appear whole, in equal bytes.

A set is written as numbered parts under `OUTPUT/.unfinished/`, each followed
by a small JSON file that describes it; `finish` gives the parts their final
names and writes `manifest.json` last. Work that was interrupted anywhere is
taken up by running the same task again: parts that have their JSON stay.
"""
from collections.abc import Iterable, Mapping, Sequence
import contextlib
import json
import pathlib
import re

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import json_kinds
from walt_jax.core import paths
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.media import decode

UNFINISHED = '.unfinished'
_RAW_SUFFIXES = decode.VIDEO_SUFFIXES | decode.IMAGE_SUFFIXES | {'.tar'}
_TASK = 'task.json'
# What `Unfinished.publish` and those who call it name files.
_SET_FILE = re.compile(
    r'[^/]+\.array_record-\d{5,}-of-\d{5,}|[^/]+\.index\.npy|inputs\.jsonl')
# Entries of a task that finished work may differ in: its records do not.
_NO_IDENTITY = ('versions', 'caption_limit')


def task_sha256(task: dict) -> str:
  """Identity of finished work; newer versions need not redo it."""
  return files.json_sha256({name: value for name, value in task.items()
                            if name not in _NO_IDENTITY})


def write_records(path: pathlib.Path, records: Iterable[bytes]) -> int:
  """Writes one ArrayRecord file, whole or not at all; returns its length.

  No file is written for no records.

  Raises:
    errors.UserError: It cannot be written; a full disk, for one.
  """
  from array_record.python import array_record_module
  count, writer = 0, None

  def guarded(call, *args):
    with files.explained(path):
      try:
        return call(*args)
      except RuntimeError as error:  # The writer's own.
        raise OSError(str(error)) from error

  with files.replaced_file(path) as partial:
    try:
      for record in records:
        if writer is None:
          # One record a group: random access reads nothing in vain.
          writer = guarded(array_record_module.ArrayRecordWriter, str(partial),
                           'group_size:1')
        guarded(writer.write, record)
        count += 1
      if writer is not None:
        guarded(writer.close)
    finally:
      if writer is not None and writer.is_open():
        with contextlib.suppress(RuntimeError):
          writer.close()
  return count


class OtherSet(errors.UserError):
  """A folder holds a set of ours, of another task."""


class Unfinished:
  """The numbered parts of a set that is being written to `output`."""

  def __init__(self, output: pathlib.Path, task: dict, *,
               alone: bool = True):
    """Starts or takes up the work described by `task` (a JSON value).

    Args:
      output: Folder of the set.
      task: What decides its content.
      alone: Nobody else writes now: what a killed run left can go.

    Raises:
      OtherSet: `output` holds other work.
      errors.UserError: It holds other files.
    """
    self.output = output
    self.directory = output / UNFINISHED
    task_file = self.directory / _TASK
    if (output / manifest_lib.MANIFEST).exists():
      raise OtherSet(
          f'{str(output)!r} already holds a data set made from other input or '
          'with other settings: remove it or choose another --output')
    if task_file.exists():
      # As it is read: JSON knows no tuples.
      if files.read_json(task_file) != json.loads(json.dumps(task)):
        raise OtherSet(
            f'{str(output)!r} holds an unfinished data set made from other '
            'input or with other settings: remove it or choose another '
            '--output')
    else:
      _refuse_raw(output)
    try:
      paths.make_folder(self.directory)
    except OSError as error:
      raise errors.UserError(
          f'cannot make the folder {str(output)!r}: {error}') from error
    if alone:
      files.remove_partial_files(self.directory)
    if not task_file.exists():
      files.write_json(task_file, task)

  def remove_partial_files(self, numbers: Sequence[int]) -> None:
    """Removes what killed runs left of parts that nobody else writes."""
    files.remove_partial_files(self.directory, lambda name: (
        name.split('.')[0].isdecimal() and int(name.split('.')[0]) in numbers))

  def part_file(self, number: int, role: str = 'records') -> pathlib.Path:
    return self.directory / f'{number:06d}.{role}'

  def present(self, role: str) -> list[int]:
    """Numbers of the parts that have a file of a role ('json': are done)."""
    names = [path.name for path in self.directory.iterdir()]
    return [int(name.split('.')[0]) for name in names
            if name.endswith(f'.{role}') and name.split('.')[0].isdecimal()]

  def is_done(self, number: int) -> bool:
    return self._report_file(number).exists()

  def report(self, number: int) -> dict:
    """What `mark_done` said of a part.

    Raises:
      errors.UserError: It is damaged.
    """
    file = self._report_file(number)
    report = files.read_json(file)
    try:
      json_kinds.check(report, {'counts': Mapping[str, int]})
    except ValueError as error:
      raise errors.UserError(
          f'{str(file)!r} is damaged: {error}; remove it, and run the same '
          'command again') from None
    return report

  def mark_done(self, number: int, report: dict) -> None:
    files.write_json(self._report_file(number), report)

  def _report_file(self, number: int) -> pathlib.Path:
    return self.directory / f'{number:06d}.json'

  def publish(self, numbers: list[int], name: str,
              role: str = 'records') -> list[dict]:
    """Gives parts their final names, `name.array_record-00000-of-00003`.

    Args:
      numbers: The parts that hold records, in order.
      name: For example 'walt-train'.
      role: Which of a part's files.

    Returns:
      For the manifest: file, num_examples (as in the report's `role` count),
      bytes and sha256 of each.
    """
    shards = []
    for place, number in enumerate(numbers):
      target = self.output / (
          f'{name}.array_record-{place:05d}-of-{len(numbers):05d}')
      part = self.part_file(number, role)
      if part.exists():  # Else an interrupted run has moved it already.
        paths.move(part, target)
      counts = self.report(number)['counts']
      shards.append(dict(file=target.name, num_examples=counts.get(role, 0),
                         bytes=paths.size(target),
                         sha256=files.file_sha256(target)))
    return shards

  def write(self, name: str, data: bytes) -> None:
    """Writes a file of the finished set."""
    files.write_bytes(self.output / name, data)

  def finish(self, manifest: dict) -> None:
    """Writes the manifest and forgets the parts."""
    files.write_json(self.output / manifest_lib.MANIFEST, manifest)
    paths.remove_tree(self.directory)


def remove(output: pathlib.Path) -> None:
  """Removes a set, finished or not, from a folder; other files stay."""
  if (output / manifest_lib.MANIFEST).exists():
    (output / manifest_lib.MANIFEST).unlink()  # First: no half of it is whole.
  for path in output.iterdir():
    if _SET_FILE.fullmatch(path.name):
      path.unlink(missing_ok=True)
  paths.remove_tree(output / UNFINISHED)


def _refuse_raw(output: pathlib.Path) -> None:
  """Refuses to write a set among videos, images or tar files."""
  raw = next((path for path in paths.files_below(output)
              if path.suffix.lower() in _RAW_SUFFIXES), None)
  if raw is not None:
    raise errors.UserError(
        f'{str(output)!r} holds raw files, such as '
        f'{str(raw.relative_to(output))!r}: choose a new folder as --output')


def finished_manifest(output: pathlib.Path, task: dict) -> dict | None:
  """The manifest in `output` if it is the result of `task`, else None."""
  if not (output / manifest_lib.MANIFEST).exists():
    return None
  manifest = manifest_lib.read_manifest(output)
  if manifest.get('task_sha256') != task_sha256(task):
    return None
  # An earlier run may have ended between its last two steps.
  paths.remove_tree(output / UNFINISHED)
  return manifest
