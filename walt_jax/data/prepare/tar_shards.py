"""WebDataset-style tar shards: clips, and texts beside them (`sidecars.py`).

Only headers and the small texts are read to list a shard; a clip's bytes are
read where they lie.
"""
from collections.abc import Iterator
import contextlib
import dataclasses
import pathlib
import tarfile
from typing import Any, BinaryIO

from walt_jax.data.prepare import listing
from walt_jax.data.prepare import sidecars


@dataclasses.dataclass(frozen=True)
class Contents:
  """What a shard holds; names are 'SHARD.tar/MEMBER'.

  Attributes:
    files: Clips that can be tried, in their order.
    rejected: What cannot be tried.
    hidden: Members that are passed over.
    texts: Members that describe clips.
  """
  files: tuple[listing.InputFile, ...]
  rejected: tuple[listing.Rejection, ...] = ()
  hidden: tuple[str, ...] = ()
  texts: tuple[str, ...] = ()


def scan(folder: pathlib.Path, tar: listing.TarFile) -> Contents:
  """Lists a shard."""
  clips: dict[str, listing.InputFile] = {}
  media: dict[str, None] = {}  # All that texts may be beside of.
  texts: dict[str, bytes] = {}
  rejected, hidden = [], []
  try:
    for member, text in _members(folder / tar.path):
      path = f'{tar.path}/{member.name}'
      if _is_hidden(member.name):
        hidden.append(path)
        continue
      if not member.isreg() or member.issparse():
        rejected.append(listing.Rejection(path, 'not a regular file'))
        continue
      if path in texts or path in media:
        rejected.append(listing.Rejection(
            path, 'a second member of this name; the first one is used'))
        continue
      if text is not None:
        texts[path] = text
        continue
      media[path] = None
      if '.' not in member.name.rpartition('/')[2]:
        rejected.append(listing.Rejection(path, 'a name without a suffix'))
      elif not member.size:
        rejected.append(listing.Rejection(path, 'empty file'))
      else:
        clips[path] = listing.InputFile(
            path, listing.UNLABELLED, (), tar.group, member.size, tar.split,
            offset=member.offset_data)
  except (tarfile.TarError, OSError, EOFError, ValueError,
          OverflowError) as error:  # Of numbers in headers that lie.
    rejected.append(listing.Rejection(
        tar.path, f'damaged after {len(clips)} clips: '
        f'{type(error).__name__}: {error}'))
  texts_of, alone = sidecars.pair(media, texts, by_key=True)
  files = []
  for path, file in clips.items():
    try:
      said = sidecars.describe(
          [(name, texts[name]) for name in texts_of.get(path, ())])
    except ValueError as error:
      rejected.append(listing.Rejection(path, str(error)))
      continue
    files.append(dataclasses.replace(
        file, label=said.label or listing.UNLABELLED, captions=said.captions))
  rejected += [listing.Rejection(path, 'a text without a video or an image')
               for path in alone]
  if not clips and not rejected:
    rejected.append(listing.Rejection(tar.path, 'holds no video or image'))
  used = {text for own in texts_of.values() for text in own}
  return Contents(tuple(files), tuple(rejected), tuple(hidden),
                  tuple(sorted(used)))


def read_member(folder: pathlib.Path, tar: str,
                file: listing.InputFile) -> bytes:
  """The bytes of a file that `scan` found."""
  with (folder / tar).open('rb') as shard:
    shard.seek(file.offset or 0)
    return shard.read(file.size)


def _members(path: pathlib.Path
             ) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
  """Yields members but for folders, with the bytes of texts."""
  # 'r:' takes no compression: members must be found without reading it all.
  size = path.stat().st_size
  with contextlib.ExitStack() as stack:
    file: Any = _Bounded(stack.enter_context(path.open('rb')), size)
    tar = stack.enter_context(
        tarfile.open(fileobj=file, mode='r:', errors='surrogateescape'))
    for member in tar:
      if member.isdir():
        continue
      if not 0 <= member.size <= size - member.offset_data:
        raise EOFError(f'{member.name} runs past the end of the file')
      text = None
      if member.isreg() and sidecars.is_one(member.name):
        opened = tar.extractfile(member)
        # One that is too long is read so far that it shows.
        text = opened.read(sidecars.MAX_BYTES + 1) if opened else b''
      yield member, text
      # Else the list of a large shard stays in memory.
      tar.members = []  # type: ignore[attr-defined]


class _Bounded:
  """A file that is never asked for more bytes than it has.

  Python makes room for what a header says before it reads.
  """

  def __init__(self, file: BinaryIO, size: int):
    self._file, self._size = file, size
    self.seek, self.tell = file.seek, file.tell

  def read(self, count: int = -1) -> bytes:
    rest = max(0, self._size - self._file.tell())
    return self._file.read(rest if count < 0 else min(count, rest))


def _is_hidden(name: str) -> bool:
  """Whether a name, or a folder in it, begins with a dot; './a' does not."""
  return any(part.startswith('.') and part not in ('.', '..')
             for part in name.split('/'))
