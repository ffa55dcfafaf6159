"""Changes of arrays, archives, protocol buffers, pickles and other formats."""
from collections.abc import Callable
import io
import json
import pickletools
import random
import struct
from typing import Any
import zipfile
import zlib

import numpy as np

from benchmarks.fuzz import mutations
from benchmarks.fuzz import reader
from walt_jax.core import protobuf as protobuf_lib

Mutate = reader.Mutate
Rng = random.Random

# NumPy -----------------------------------------------------------------------

_DESCRS = ("'|u1'", "'<f4'", "'<f8'", "'|O'", "'<i8'", "'<U9'", "'|S4'",
           "'<M8[s]'", "[('a', '<i4')]", "'x'", '1', "('<i4', (2,))",
           "'|V8'", "'<f2'", "'>f4'", "'<c16'", "'|b1'", "'<U99999999'")


def npy(rng: Rng, data: bytes) -> bytes:
  """Changes the header of an array file, or its bytes."""
  kind = rng.random()
  if kind < 0.2:
    return mutations.edits(rng, data)
  if kind < 0.4:
    return mutations.edits(rng, data, 128)
  try:
    array = np.load(io.BytesIO(data))
  except Exception:  # It was changed before.
    return mutations.edits(rng, data)
  shape = [int(extent) for extent in array.shape]
  descr, order = repr(np.lib.format.dtype_to_descr(array.dtype)), 'False'
  for _ in range(rng.randint(1, 2)):
    what = rng.randrange(6)
    if what == 0:
      descr = rng.choice(_DESCRS)
    elif what == 1:
      order = rng.choice(('True', 'False', '1', 'None', "'x'"))
    elif what == 2 and shape:
      shape[rng.randrange(len(shape))] = rng.choice(mutations.HOSTILE_INTS)
    elif what == 3:
      shape.insert(rng.randrange(len(shape) + 1), rng.choice((0, 1, 2, -1)))
    elif what == 4 and shape:
      del shape[rng.randrange(len(shape))]
    else:
      shape = [rng.choice((0, 1, 2, 3)) for _ in range(rng.randint(0, 70))]
  written = repr(tuple(shape))
  if rng.random() < 0.05:
    written = rng.choice(('None', '[1]', '(1.5,)', "('a',)", '(' * 300,
                          '(True,)', '{}'))
  header = (f"{{'descr': {descr}, 'fortran_order': {order}, "
            f"'shape': {written}, }}")
  if rng.random() < 0.05:
    header = mutations.edits(rng, header.encode()).decode('latin1')
  body = array.tobytes()
  if rng.random() < 0.2:
    body = body[:rng.randrange(len(body) + 1)]
  coded = header.encode('latin1', 'replace').ljust(117) + b'\n'
  version = rng.choice((b'\x01\0',) * 8 + (b'\x02\0', b'\x03\0', b'\x09\0'))
  width = 2 if version == b'\x01\0' else 4
  return (b'\x93NUMPY' + version + len(coded).to_bytes(width, 'little')
          + coded + body)


def is_npy(data: bytes) -> bool:
  """Whether an input has a header of NumPy."""
  stream = io.BytesIO(data)
  try:
    version = np.lib.format.read_magic(stream)
    (np.lib.format.read_array_header_1_0 if version == (1, 0)
     else np.lib.format.read_array_header_2_0)(stream)
  except Exception:  # Whatever it is, it is no header.
    return False
  return True


# Archives --------------------------------------------------------------------


def archive(member: Callable[[str], Mutate]) -> Mutate:
  """Changes members of a zip archive.

  Args:
    member: The mutation of a member of a name.
  """

  def mutate(rng: Rng, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
      members = [(name, opened.read(name)) for name in opened.namelist()]
    for _ in range(rng.randint(1, 2)):
      if not members:
        break
      at, kind = rng.randrange(len(members)), rng.randrange(10)
      name, content = members[at]
      if kind < 7:
        members[at] = name, member(name)(rng, content)
      elif kind == 7:
        del members[at]
      elif kind == 8:
        members.append((name + rng.choice(('x', '.npy', '/', '')), content))
      else:
        members[at] = (rng.choice(('a.npy', '../a', 'data.pkl', 'x/data.pkl',
                                   'header.npy', 'arr_0.npy')), content)
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', rng.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as new:
      for name, content in members:
        if rng.random() < 0.01:  # A bomb.
          content += bytes(64 << 20) if rng.random() < 0.05 else bytes(1 << 16)
        new.writestr(zipfile.ZipInfo(name), content, new.compression)
    return out.getvalue()

  return mutations.one_of((7, mutate), (3, mutations.edits))


def is_archive(data: bytes) -> bool:
  """Whether an input has a list of members."""
  try:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
      return bool(opened.namelist())
  except Exception:  # Whatever it is, it is no archive.
    return False


NPZ = archive(lambda name: npy)


# Protocol buffers ------------------------------------------------------------


_SIZES = {  # Bytes by wire type.
    protobuf_lib.FIXED64: 8, protobuf_lib.DELIMITED: 0,
    protobuf_lib.FIXED32: 4}


def _fields(data: bytes) -> list[tuple[int, int, Any]]:
  """(number, wire type, value) of a message; raises where it is none."""
  found, at = [], 0
  while at < len(data):
    tag, at = protobuf_lib.read_varint(data, at)
    wire = tag & 7
    if wire == protobuf_lib.VARINT:
      value, at = protobuf_lib.read_varint(data, at)
      found.append((tag >> 3, wire, value))
      continue
    if wire not in _SIZES or not tag >> 3:
      raise ValueError('no message')
    size = _SIZES[wire]
    if wire == protobuf_lib.DELIMITED:
      size, at = protobuf_lib.read_varint(data, at)
    if at + size > len(data):
      raise ValueError('no message')
    found.append((tag >> 3, wire, data[at:at + size]))
    at += size
  return found


def _message(fields: list[tuple[int, int, Any]]) -> bytes:
  out = b''
  for number, wire, value in fields:
    out += protobuf_lib.varint(number << 3 | wire)
    if wire == protobuf_lib.VARINT:
      out += protobuf_lib.varint(value)
    elif wire == protobuf_lib.DELIMITED:
      out += protobuf_lib.varint(len(value)) + value
    else:
      out += value
  return out


def protobuf(rng: Rng, data: bytes) -> bytes:
  """Changes fields of a message, or of one inside it."""
  try:
    fields = _fields(data)
  except (ValueError, IndexError):
    return mutations.edits(rng, data)
  if not fields:
    return mutations.edits(rng, data)
  at, kind = rng.randrange(len(fields)), rng.randrange(12)
  number, wire, value = fields[at]
  if kind < 6 and wire == 2:
    fields[at] = number, wire, protobuf(rng, value)
  elif kind < 8 and wire == 0:
    fields[at] = number, wire, rng.choice(mutations.NUMBERS)
  elif kind == 8:
    del fields[at]
  elif kind == 9:
    fields.insert(at, fields[rng.randrange(len(fields))])
  elif kind == 10:
    fields[at] = rng.choice((0, 1, 2, 3, 8, 99, 1 << 28)), wire, value
  elif wire == 2:
    fields[at] = number, wire, mutations.edits(rng, value)
  else:
    fields[at] = number, 0, rng.choice(mutations.NUMBERS)
  return _message(fields)


PROTOBUF = mutations.one_of((8, protobuf), (2, mutations.edits))


def is_message(data: bytes) -> bool:
  """Whether an input is a message from its first byte to its last."""
  try:
    return bool(_fields(data))
  except (ValueError, IndexError):
    return False


# Pickle ----------------------------------------------------------------------


def pickle(rng: Rng, data: bytes) -> bytes:
  """Changes, drops, repeats and swaps instructions of a pickle."""
  if rng.random() < 0.2:
    return mutations.edits(rng, data)
  try:
    places = [place for _, _, place in pickletools.genops(data)]
  except Exception:  # Whatever it is, its instructions cannot be told.
    return mutations.edits(rng, data)
  steps = [data[a:b] for a, b in zip(places, [*places[1:], len(data)],
                                     strict=True)]
  for _ in range(rng.randint(1, 3)):
    if len(steps) < 2:
      break
    at, kind = rng.randrange(1, len(steps)), rng.randrange(6)
    if kind == 0:
      del steps[at]
    elif kind == 1:
      steps.insert(at, rng.choice(steps))
    elif kind == 2:
      other = rng.randrange(1, len(steps))
      steps[at], steps[other] = steps[other], steps[at]
    elif kind == 3:
      steps[at] = rng.choice((
          b'N', b')', b']', b'}', b'(', b't', b'l', b'd', b'0', b'1', b'2',
          b'R', b'b', b's', b'u', b'a', b'e', b'Q', b'\x81', b'\x85', b'\x86',
          b'\x87', b'\x88', b'\x8f', b'\x90', b'.', b'cos\nsystem\n',
          b'cnumpy\ndtype\n', b'K\x07', b'J\xff\xff\xff\x7f', b'G' + bytes(8),
          b'\x8a\x0f' + b'\x7f' * 15, b'X\x01\0\0\0a'))
    elif len(steps[at]) > 1:
      steps[at] = steps[at][:1] + mutations.edits(rng, steps[at][1:])
  return b''.join(steps)


def is_pickle(data: bytes) -> bool:
  """Whether an input can be cut into instructions, up to its end."""
  try:
    return sum(1 for _ in pickletools.genops(data)) > 2
  except Exception:  # Whatever it is, it is no pickle.
    return False


# Others ----------------------------------------------------------------------


def safetensors(rng: Rng, data: bytes) -> bytes:
  """Changes the header of safetensors, with its length right; or bytes."""
  kind = rng.random()
  size = int.from_bytes(data[:8], 'little')
  if kind < 0.2:
    return mutations.edits(rng, data)
  if kind < 0.3:
    return mutations.edits(rng, data, 8 + size)
  header = json.loads(data[8:8 + size])
  header = mutations.json_text(mutations.json_value(rng, header), rng)
  if kind < 0.6:
    header = header.ljust(-len(header) % 8 + len(header))
  return len(header).to_bytes(8, 'little') + header + data[8 + size:]


def has_safetensors_header(data: bytes) -> bool:
  """Whether an input begins with the header of safetensors."""
  size = int.from_bytes(data[:8], 'little')
  return 8 + size <= len(data) and mutations.is_json(data[8:8 + size])


def png(rng: Rng, data: bytes) -> bytes:
  """Changes chunks of a PNG file; their checksums stay right."""
  if rng.random() < 0.2:
    return mutations.edits(rng, data)
  chunks, at = [], 8
  while at + 12 <= len(data):
    size = int.from_bytes(data[at:at + 4], 'big')
    chunks.append((data[at + 4:at + 8], data[at + 8:at + 8 + size]))
    at += 12 + size
  for _ in range(rng.randint(1, 2)):
    if not chunks:
      break
    at, choice = rng.randrange(len(chunks)), rng.randrange(8)
    kind, body = chunks[at]
    if choice < 3:
      chunks[at] = kind, mutations.edits(rng, body)
    elif choice == 3 and kind == b'IHDR':
      sizes = [rng.choice((0, 1, 7, 4096, 16384, 65535, 2**31 - 1))
               for _ in range(2)]
      chunks[at] = kind, struct.pack('>II', *sizes) + bytes(
          (rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6)), 0, 0,
           rng.randrange(2)))
    elif choice == 4:
      del chunks[at]
    elif choice == 5:
      chunks.insert(at, rng.choice(chunks))
    elif choice == 6 and kind in (b'IDAT', b'fdAT'):
      chunks[at] = kind, zlib.compress(bytes(rng.choice((0, 9, 99, 1 << 16))))
    else:
      chunks.insert(at, rng.choice((
          (b'acTL', struct.pack('>II', rng.choice((0, 1, 2, 99)), 0)),
          (b'zTXt', b'a\0\0' + zlib.compress(bytes(1 << 16))),
          (b'iCCP', b'a\0\0' + zlib.compress(b'x' * 999)),
          (b'tRNS', bytes(6)), (b'eXIf', b'II*\0' + rng.randbytes(20)))))
  out = data[:8]
  for kind, body in chunks:
    out += (len(body).to_bytes(4, 'big') + kind + body
            + zlib.crc32(kind + body).to_bytes(4, 'big'))
  return out


def tar(rng: Rng, data: bytes) -> bytes:
  """Changes headers of a tar file, with right checksums; or bytes."""
  if rng.random() < 0.2:
    return mutations.edits(rng, data)
  out = bytearray(data)
  heads = [at for at in range(0, len(out) - 511, 512)
           if out[at + 257:at + 262] == b'ustar']
  for _ in range(rng.randint(1, 2)):
    if not heads:
      break
    at = rng.choice(heads)
    start, size = rng.choice(((0, 100), (100, 8), (124, 12), (136, 12),
                              (156, 1), (157, 100), (263, 2), (345, 155)))
    value = rng.choice((
        rng.randbytes(size), b'7' * size, b'-1'.ljust(size, b'\0'),
        b'\x80' + rng.randbytes(max(0, size - 1)), b'\xff' * size, bytes(size),
        b'a.mp4'.ljust(size, b'\0'), b'../a.png'.ljust(size, b'\0'),
        f'{rng.randrange(4096):o}'.encode().rjust(size - 1, b'0') + b'\0',
        bytes((rng.choice(b'0123456789xgLKSVAD'),)).ljust(size, b'\0')))
    out[at + start:at + start + size] = value[:size].ljust(size, b'\0')
    out[at + 148:at + 156] = b' ' * 8
    out[at + 148:at + 156] = f'{sum(out[at:at + 512]):06o}\0 '.encode()
  if rng.random() < 0.1:
    del out[rng.randrange(len(out)):]
  return bytes(out)


def starts(*marks: bytes, size: int = 0) -> Callable[[bytes], bool]:
  """Whether an input begins with a mark, and is long enough for more."""
  return lambda data: data.startswith(marks) and len(data) > size
