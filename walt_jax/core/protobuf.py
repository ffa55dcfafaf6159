"""The wire format of protocol buffers, of which a few fields are needed.

Source: https://protobuf.dev/programming-guides/encoding.
"""
from collections.abc import Iterator
from typing import Any, TypeVar

Data = TypeVar('Data', bytes, memoryview)

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5  # Wire types.


def varint(value: int) -> bytes:
  """Writes a number; negative ones take ten bytes."""
  value &= (1 << 64) - 1
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  out.append(value)
  return bytes(out)


def field(number: int, payload: bytes) -> bytes:
  """Writes one field that holds bytes or a message."""
  return varint(number << 3 | DELIMITED) + varint(len(payload)) + payload


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
  """Reads a number without its sign; returns it and the position behind it.

  Raises:
    ValueError: It is cut short, or has more than 64 bits.
  """
  value = shift = 0
  while True:
    if position >= len(data) or shift > 63:
      raise ValueError('a number of a protocol buffer that does not end')
    byte = data[position]
    position += 1
    value |= (byte & 0x7F) << shift
    if byte < 0x80:
      return value, position
    shift += 7


def read_fields(data: Data) -> Iterator[tuple[int, Any]]:
  """Yields (field number, value) of one message.

  A value is a number, or a slice of `data`: bytes, a message or the bytes of
  a fixed number.

  Raises:
    ValueError: The message is cut short, or of no known form.
  """
  position = 0
  while position < len(data):
    tag, position = read_varint(data, position)
    number, wire = tag >> 3, tag & 7
    if wire == VARINT:
      value, position = read_varint(data, position)
      yield number, value
      continue
    if wire == DELIMITED:
      size, position = read_varint(data, position)
    elif wire in (FIXED32, FIXED64):
      size = 4 if wire == FIXED32 else 8
    else:
      raise ValueError(f'field kind {wire} of a protocol buffer')
    if position + size > len(data):
      raise ValueError('a protocol buffer cut short')
    yield number, data[position:position + size]
    position += size
