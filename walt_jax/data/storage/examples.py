"""The `tf.train.Example` wire format, written and read without TensorFlow.

Records in this format are readable by TFDS and by every TensorFlow tool.
Source: tensorflow/core/example/{example,feature}.proto. Features are written
in the order of their names, so that equal examples have equal bytes.
"""
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from walt_jax.core import protobuf

# A feature is a list of bytes, or an array of float32 or int64.
Feature = Sequence[bytes] | np.ndarray

_BYTES, _FLOATS, _INTS = 1, 2, 3  # Field numbers in `Feature`.


def _encode_feature(name: str, feature: Feature) -> bytes:
  if isinstance(feature, np.ndarray):
    if feature.dtype == np.float32:
      packed = feature.astype('<f4').tobytes()
      return protobuf.field(_FLOATS, protobuf.field(1, packed))
    if feature.dtype == np.int64:
      packed = b''.join(
          protobuf.varint(int(value)) for value in feature.ravel())
      return protobuf.field(_INTS, protobuf.field(1, packed))
    raise ValueError(f'Feature {name!r} has dtype {feature.dtype}: use '
                     'float32, int64 or a list of bytes.')
  return protobuf.field(
      _BYTES, b''.join(protobuf.field(1, value) for value in feature))


def encode(features: Mapping[str, Feature]) -> bytes:
  """Serialises features as a `tf.train.Example`."""
  entries = (
      protobuf.field(
          1, protobuf.field(1, name.encode())
          + protobuf.field(2, _encode_feature(name, features[name])))
      for name in sorted(features))
  return protobuf.field(1, b''.join(entries))


def _decode_ints(payload: memoryview) -> Iterator[int]:
  at = 0
  while at < len(payload):
    value, at = protobuf.read_varint(payload, at)
    yield value - (1 << 64) if value >> 63 else value


def _bytes_of(value: Any) -> memoryview:
  """The value of a field that holds bytes; a number would make so many."""
  if not isinstance(value, memoryview):
    raise ValueError('a number where bytes should be')
  return value


def _decode_feature(data: memoryview) -> Any:
  for kind, value in protobuf.read_fields(data):
    values = _bytes_of(value)
    if kind == _BYTES:
      return [bytes(_bytes_of(value))
              for _, value in protobuf.read_fields(values)]
    payloads = [payload for _, payload in protobuf.read_fields(values)]
    if kind == _FLOATS:
      return np.concatenate(
          [np.frombuffer(_bytes_of(payload), '<f4') for payload in payloads]
          or [np.zeros(0, '<f4')])
    numbers: list[int] = []
    for payload in payloads:
      numbers.extend(
          [payload] if isinstance(payload, int) else _decode_ints(payload))
    return np.array(numbers, np.int64)
  return []


def decode(record: bytes) -> dict[str, Any]:
  """Reads a serialised `tf.train.Example`.

  Raises:
    ValueError: It is none.
  """
  features: dict[str, Any] = {}
  for _, entries in protobuf.read_fields(memoryview(record)):
    for _, entry in protobuf.read_fields(_bytes_of(entries)):
      name: str = ''
      feature: Any = []
      for number, payload in protobuf.read_fields(_bytes_of(entry)):
        if number == 1:
          name = bytes(_bytes_of(payload)).decode()
        else:
          feature = _decode_feature(_bytes_of(payload))
      features[name] = feature
  return features
