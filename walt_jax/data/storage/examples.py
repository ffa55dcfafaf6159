"""The `tf.train.Example` wire format, written and read without TensorFlow.

Records in this format are readable by TFDS and by every TensorFlow tool.
Source: tensorflow/core/example/{example,feature}.proto. Features are written
in the order of their names, so that equal examples have equal bytes.
"""
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# A feature is a list of bytes, or an array of float32 or int64.
Feature = Sequence[bytes] | np.ndarray

_BYTES, _FLOATS, _INTS = 1, 2, 3  # Field numbers in `Feature`.
_DELIMITED = 2  # Wire type.


def _varint(value: int) -> bytes:
  value &= (1 << 64) - 1  # Negative numbers take ten bytes.
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  out.append(value)
  return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
  return _varint(number << 3 | _DELIMITED) + _varint(len(payload)) + payload


def _encode_feature(name: str, feature: Feature) -> bytes:
  if isinstance(feature, np.ndarray):
    if feature.dtype == np.float32:
      return _field(_FLOATS, _field(1, feature.astype('<f4').tobytes()))
    if feature.dtype == np.int64:
      packed = b''.join(_varint(int(value)) for value in feature.ravel())
      return _field(_INTS, _field(1, packed))
    raise ValueError(f'Feature {name!r} has dtype {feature.dtype}: use '
                     'float32, int64 or a list of bytes.')
  return _field(_BYTES, b''.join(_field(1, value) for value in feature))


def encode(features: Mapping[str, Feature]) -> bytes:
  """Serialises features as a `tf.train.Example`."""
  entries = (
      _field(1, _field(1, name.encode())
             + _field(2, _encode_feature(name, features[name])))
      for name in sorted(features))
  return _field(1, b''.join(entries))


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = data[at]
    at += 1
    value |= (byte & 0x7F) << shift
    if byte < 0x80:
      return value, at
    shift += 7


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
  """Yields (field number, payload) of one message."""
  at = 0
  while at < len(data):
    tag, at = _read_varint(data, at)
    number, wire = tag >> 3, tag & 7
    if wire == _DELIMITED:
      size, at = _read_varint(data, at)
      if at + size > len(data):
        raise ValueError('Truncated example.')
      yield number, data[at:at + size]
      at += size
    elif wire == 0:
      value, at = _read_varint(data, at)
      yield number, value
    elif wire == 5:
      yield number, data[at:at + 4]
      at += 4
    else:
      raise ValueError(f'Wire type {wire} does not belong in an example.')


def _decode_ints(payload: memoryview) -> Iterator[int]:
  at = 0
  while at < len(payload):
    value, at = _read_varint(payload, at)
    yield value - (1 << 64) if value >> 63 else value


def _decode_feature(data: memoryview) -> Any:
  for kind, values in _fields(data):
    if kind == _BYTES:
      return [bytes(value) for _, value in _fields(values)]
    payloads = [payload for _, payload in _fields(values)]
    if kind == _FLOATS:
      return np.concatenate(
          [np.frombuffer(p, '<f4') for p in payloads] or [np.zeros(0, '<f4')])
    numbers: list[int] = []
    for payload in payloads:
      numbers.extend(
          [payload] if isinstance(payload, int) else _decode_ints(payload))
    return np.array(numbers, np.int64)
  return []


def decode(record: bytes) -> dict[str, Any]:
  """Reads a serialised `tf.train.Example`."""
  features: dict[str, Any] = {}
  for _, entries in _fields(memoryview(record)):
    for _, entry in _fields(entries):
      name: str = ''
      feature: Any = []
      for number, payload in _fields(entry):
        if number == 1:
          name = bytes(payload).decode()
        else:
          feature = _decode_feature(payload)
      features[name] = feature
  return features
