"""What a row of the table of hostile inputs is, and what makes its files."""
from collections.abc import Callable, Iterable
import dataclasses
import io
import os
import pathlib
import struct
import zipfile
import zlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
  """A command line that must end in one line.

  Attributes:
    name: What is hostile about it.
    argv: Its words; {dir} stands for the row's own folder, {base} and others
      for the work directories that all rows share.
    make: Writes the row's files into its folder.
    named: A part of the line, formatted like the words.
    env: Environment variables.
  """
  name: str
  argv: tuple[str, ...]
  make: Callable[[pathlib.Path], None] | None = None
  named: str = ''
  env: tuple[tuple[str, str], ...] = ()


def writes(name: str, data: bytes | str) -> Callable[[pathlib.Path], None]:
  """Makes one file."""
  if isinstance(data, str):
    data = data.encode(errors='surrogateescape')
  return lambda folder: (folder / name).write_bytes(data) and None


def fifo(folder: pathlib.Path) -> None:
  os.mkfifo(folder / 'x')


def loop(folder: pathlib.Path) -> None:
  (folder / 'x').symlink_to('x')


def directory(folder: pathlib.Path) -> None:
  (folder / 'x').mkdir()


# What may stand where a file of some content is read.
FILES: dict[str, Callable[[pathlib.Path], None] | None] = {
    'nothing': None,
    'an empty file': writes('x', b''),
    'a pipe': fifo,
    'a link to itself': loop,
    'a folder': directory,
    'zeros': writes('x', bytes(4096)),
    'noise': writes('x', np.random.default_rng(0).bytes(4096)),
}


def npy(descr: str = '|u1', shape: str = '(2, 5, 16, 16, 3)',
        data: bytes = b'', order: str = 'False', header: str | None = None,
        version: bytes = b'\x01\x00') -> bytes:
  """An .npy file whose header may lie."""
  text = header if header is not None else (
      f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}")
  raw = text.encode()
  return (b'\x93NUMPY' + version + struct.pack('<H', len(raw) & 0xffff) + raw
          + data)


def npz(**entries: bytes) -> bytes:
  """A zip archive of these files, whatever they hold."""
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, data in entries.items():
      archive.writestr(f'{name}.npy', data)
  return out.getvalue()


def npz_bomb(gigabytes: int = 2) -> bytes:
  """A small archive whose array takes gigabytes."""
  out = io.BytesIO()
  side = 16 * 16 * 5 * 3
  count = gigabytes * 2**30 // side
  head = npy(shape=f'({count}, 5, 16, 16, 3)')
  zeros = bytes(2**20)
  with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED, compresslevel=1
                       ) as archive, archive.open(
                           'arr_0.npy', 'w', force_zip64=True) as file:
    file.write(head)
    for _ in range(64):  # The header promises more than there is.
      file.write(zeros)
  return out.getvalue()


def png(width: int, height: int, data: bytes = b'') -> bytes:
  """A PNG of a size that its data need not have."""
  def chunk(kind: bytes, body: bytes) -> bytes:
    return (struct.pack('>I', len(body)) + kind + body
            + struct.pack('>I', zlib.crc32(kind + body)))

  head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head)
          + chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b''))


def product(names: Iterable[str], *parts) -> list:
  """All pairs of names and things."""
  return [(name, part) for name in names for part in parts]
