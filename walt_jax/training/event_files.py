"""TensorBoard's event files, cut back to a step.

A file is a sequence of records: the length of an event (8 bytes), a checksum
of that (4), the event and its checksum (4). Whole records are kept as they are,
so that no checksum is computed here. Source: TensorFlow's
`core/lib/io/record_writer.h` and `core/util/event.proto`.
"""
from collections.abc import Iterator
import os
import pathlib
import struct
from typing import BinaryIO

from walt_jax.core import files
from walt_jax.core import protobuf

_PATTERN = 'events.out.tfevents.*'
_HEAD, _CHECKSUM = 12, 4  # Bytes.
_STEP, _FILE_VERSION = 2, 3  # Fields of an event.


def drop_later(directory: str | os.PathLike[str], step: int) -> None:
  """Drops the events of later steps; nobody may be writing to the files.

  A file that holds none of them stays untouched, one that holds nothing else
  is removed. What a crash cut off in the middle is dropped too.

  Args:
    directory: Folder of event files; it need not exist.
    step: The last step to keep.
  """
  for path in sorted(pathlib.Path(directory).glob(_PATTERN)):
    size, has_events = 0, False
    with open(path, 'rb') as file:
      for record, at in _records(file):
        if at is None or at <= step:
          size += len(record)
          has_events |= at is not None
    if size == path.stat().st_size:
      continue
    if not has_events:
      path.unlink()
      continue
    with open(path, 'rb') as file, files.replaced_file(path) as partial, open(
        partial, 'wb') as kept:
      for record, at in _records(file):
        if at is None or at <= step:
          kept.write(record)


def _records(file: BinaryIO) -> Iterator[tuple[bytes, int | None]]:
  """Yields whole records and their steps, None for the file's version."""
  end = os.fstat(file.fileno()).st_size
  while len(head := file.read(_HEAD)) == _HEAD:
    (size,) = struct.unpack_from('<Q', head)
    if file.tell() + size + _CHECKSUM > end:
      return
    rest = file.read(size + _CHECKSUM)
    try:
      event = dict(protobuf.read_fields(rest[:size]))
    except (IndexError, ValueError):
      return  # Nobody reads further.
    step = None if _FILE_VERSION in event else event.get(_STEP, 0)
    if isinstance(step, bytes):
      return
    yield head + rest, step
