"""Which command made a file, with which settings: a note in the file itself.

JSON holds it as its entry `made_by`, HTML as a `<meta>` of its head, PNG as an
`iTXt` chunk and NumPy's `.npz` as the comment of its zip archive; a folder has
a file `made_by.json`. Other readers of these formats pass over all of them.
"""
from collections.abc import Mapping
import dataclasses
import html
import json
import os
import pathlib
import re
import struct
from typing import Any, BinaryIO
import zlib

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import paths

FOLDER_FILE = 'made_by.json'
_KEY = 'made_by'
_META = 'walt-made-by'
_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_HEADER = 33  # Bytes of the signature and the chunk IHDR.
_ZIP = b'PK\x03\x04'
_ZIP_END = b'PK\x05\x06'
_ZIP_END_SIZE = 22  # Without a comment.
_MOST_COMMENT = 0xffff
_HEAD = 1 << 16  # Bytes in which a page or a picture says who made it.
_MOST_JSON = 1 << 28  # No result of ours comes near.


@dataclasses.dataclass(frozen=True)
class MadeBy:
  """What made a result.

  Attributes:
    command: Words of the command, such as 'evaluate fvd'.
    settings: Its flags and what they were given, JSON values, without those
      that change no result.
    version: Version of the package; results of two versions may continue each
      other.
  """
  command: str
  settings: Mapping[str, Any]
  version: str

  def entry(self) -> dict[str, Any]:
    """The entry of a JSON object."""
    return {_KEY: dataclasses.asdict(self)}

  def is_same(self, other: 'MadeBy') -> bool:
    """Whether both make the same of the same inputs."""
    return self.command == other.command and (
        self.settings == other.settings
        or self._hashed() == other.settings
        or self.settings == other._hashed())

  def _hashed(self) -> dict[str, Any]:
    """What stands for settings that are too long for a comment."""
    return dict(sha256=files.json_sha256(self.settings))

  def differs(self, other: 'MadeBy') -> str:
    """What is unlike in words, the first thing of `other` in front."""
    if self.command != other.command:
      return f'`walt {other.command}`'
    for name in sorted({*self.settings, *other.settings}):
      mine, its = self.settings.get(name), other.settings.get(name)
      if mine != its:
        return f'{name} {_short(its)}, not {_short(mine)}'
    return 'the same settings'

  def text(self) -> str:
    """Plain ASCII on one line."""
    return json.dumps(dataclasses.asdict(self), sort_keys=True)

  def in_page(self, page: str) -> str:
    """An HTML page that says in its head what made it."""
    note = html.escape(self.text())
    head, tag, rest = page.partition('<head>')
    if not tag:
      raise ValueError('The page has no <head>.')
    return f'{head}{tag}<meta name="{_META}" content="{note}">{rest}'

  def in_png(self, image: bytes) -> bytes:
    """A PNG image that says what made it."""
    if not image.startswith(_PNG):
      raise ValueError('It is no PNG image.')
    # Keyword, not compressed, no language, no translated keyword.
    body = b'iTXt' + _KEY.encode() + b'\0\0\0\0\0' + self.text().encode()
    chunk = (struct.pack('>I', len(body) - 4) + body
             + struct.pack('>I', zlib.crc32(body)))
    return image[:_PNG_HEADER] + chunk + image[_PNG_HEADER:]

  def into_npz(self, path: pathlib.Path) -> None:
    """Adds the note to a local `.npz` that is being written."""
    comment = self.text().encode()
    if len(comment) > _MOST_COMMENT:  # Settings of thousands of words.
      comment = dataclasses.replace(
          self, settings=self._hashed()).text().encode()
    with open(path, 'rb+') as file:
      file.seek(-_ZIP_END_SIZE, os.SEEK_END)
      if file.read(4) != _ZIP_END:
        raise ValueError(f'{path} is no zip archive without a comment.')
      file.seek(-2, os.SEEK_END)
      file.write(struct.pack('<H', len(comment)) + comment)

  def into_folder(self, folder: str | os.PathLike) -> None:
    """Writes the file of a folder."""
    files.write_text(paths.path(folder) / FOLDER_FILE, self.text() + '\n')


def read(path: str | os.PathLike) -> MadeBy | None:
  """What made a file or a folder, or None if it does not say.

  Raises:
    errors.UserError: It cannot be read.
  """
  found = paths.path(path)
  if found.is_dir():
    found = found / FOLDER_FILE
    if not found.is_file():
      return None
    return _parse(found.read_text(encoding='utf-8', errors='replace'))
  try:
    with paths.answered(found), found.open('rb') as file:
      return _read_file(file, paths.size(found))
  except OSError as error:
    raise errors.UserError(
        f'cannot read {os.fspath(path)!r}, which stands where a result is to '
        f'be written: {error}') from error


def _read_file(file: BinaryIO, size: int) -> MadeBy | None:
  head = file.read(_HEAD)
  if head.startswith(_PNG):
    place = head.find(b'iTXt' + _KEY.encode() + b'\0')
    if place < 4:
      return None
    length, = struct.unpack('>I', head[place - 4:place])
    note = head[place + 4:place + 4 + length].split(b'\0', 5)[-1]
    return _parse(note.decode(errors='replace'))
  if head.startswith(_ZIP):
    file.seek(max(0, size - _MOST_COMMENT - _ZIP_END_SIZE))
    tail = file.read()
    return _parse(tail[tail.rfind(_ZIP_END) + _ZIP_END_SIZE:].decode(
        errors='replace'))
  text = head.decode(errors='replace').lstrip()
  if text.startswith('<'):
    match = re.search(f'<meta name="{_META}" content="([^"]*)">', text)
    return _parse(html.unescape(match[1])) if match else None
  if text.startswith('{') and size < _MOST_JSON:
    file.seek(0)
    return _parse(file.read().decode(errors='replace'), key=_KEY)
  return None


def _parse(text: str, key: str | None = None) -> MadeBy | None:
  try:
    value = json.loads(text)
    value = value if key is None else value[key]
    return MadeBy(str(value['command']), dict(value['settings']),
                  str(value['version']))
  except (KeyError, RecursionError, TypeError, ValueError):
    return None


def _short(value: Any) -> str:
  text = 'left out' if value is None else json.dumps(value)
  return text if len(text) <= 60 else f'{text[:57]}...'
