"""Reads TensorFlow's weight files as NumPy arrays, without TensorFlow.

Two formats: a frozen graph (`.pb`, a GraphDef whose constants hold the
weights) and a checkpoint (`X.index` beside `X.data-*`, as in a TF-Hub
module's `variables/`). Both are protocol buffers, of which a few fields are
read. No operation of the graph is looked at, let alone run.
"""
from collections.abc import Iterator
import pathlib
import struct
from typing import Any

import numpy as np

from walt_jax.core import protobuf

INDEX_MAGIC = struct.pack('<Q', 0xdb4775248b80fb57)  # Ends an `.index` file.

# TensorFlow's numbers of the types that weights have.
_DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64,
           19: np.float16}
_FLOAT, _DOUBLE = 1, 2
_FOOTER_BYTES = 48
_BLOCK_TRAILER_BYTES = 5  # Kind of compression, checksum.


def read_graph(data: bytes) -> dict[str, np.ndarray]:
  """Constants of a frozen graph by node name."""
  arrays = {}
  for number, node in protobuf.read_fields(data):
    if number != 1 or not isinstance(node, bytes):  # GraphDef.node
      continue
    fields = _by_number(node)
    if fields.get(2, [b''])[0] != b'Const':  # NodeDef.op
      continue
    for entry in fields.get(5, []):  # NodeDef.attr, a map
      pair = _by_number(entry)
      if pair[1][0] == b'value':
        tensor = _by_number(pair[2][0]).get(8)  # AttrValue.tensor
        array = _tensor(tensor[0]) if tensor else None
        if array is not None:
          arrays[fields[1][0].decode()] = array
  if not arrays:
    raise ValueError('a graph without constants')
  return arrays


def read_checkpoint(index: pathlib.Path) -> dict[str, np.ndarray]:
  """Tensors of a checkpoint by name.

  Args:
    index: Path of its `.index` file; the `.data-*` files lie beside it.
  """
  data = index.read_bytes()
  entries = dict(_table(data))
  shards = int(_by_number(entries.pop(b''))[1][0])  # BundleHeaderProto
  prefix = str(index)[:-len('.index')]
  files = [pathlib.Path(f'{prefix}.data-{i:05d}-of-{shards:05d}').read_bytes()
           for i in range(shards)]
  arrays = {}
  for name, value in entries.items():
    fields = _by_number(value)  # BundleEntryProto
    dtype = _DTYPES.get(_number(fields, 1))
    if dtype is None:
      continue
    shape = _shape(fields.get(2, [b''])[0])
    offset, size = _number(fields, 4), _number(fields, 5)
    raw = files[_number(fields, 3)][offset:offset + size]
    arrays[name.decode()] = np.frombuffer(raw, dtype).reshape(shape)
  return arrays


def _tensor(data: bytes) -> np.ndarray | None:
  """A TensorProto; None for types that are no weights."""
  fields = _by_number(data)
  kind = _number(fields, 1)
  dtype = _DTYPES.get(kind)
  if dtype is None:
    return None
  shape = _shape(fields.get(2, [b''])[0])
  if 4 in fields:  # tensor_content
    return np.frombuffer(fields[4][0], dtype).reshape(shape)
  field = {_FLOAT: 5, _DOUBLE: 6}.get(kind)
  if field is None or field not in fields:
    return None
  values = np.concatenate([np.frombuffer(value, dtype)
                           for value in fields[field]])
  count = int(np.prod(shape))
  # The last value stands for all that follow.
  values = np.concatenate([values, np.repeat(values[-1:],
                                             count - len(values))])
  return values.reshape(shape)


def _shape(data: bytes) -> tuple[int, ...]:
  return tuple(_number(_by_number(dim), 1)
               for dim in _by_number(data).get(2, []))


def _by_number(data: bytes) -> dict[int, list[Any]]:
  fields: dict[int, list[Any]] = {}
  for number, value in protobuf.read_fields(data):
    fields.setdefault(number, []).append(value)
  return fields


def _number(fields: dict[int, list[Any]], number: int) -> int:
  return int(fields.get(number, [0])[0])


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
  """Keys and values of a sorted string table (LevelDB's format)."""
  footer = data[-_FOOTER_BYTES:]
  # Offset and size of the meta index.
  _, position = protobuf.read_varint(footer, 0)
  _, position = protobuf.read_varint(footer, position)
  offset, position = protobuf.read_varint(footer, position)
  size, _ = protobuf.read_varint(footer, position)
  for _, handle in _block(data, offset, size):
    start, position = protobuf.read_varint(handle, 0)
    yield from _block(data, start, protobuf.read_varint(handle, position)[0])


def _block(data: bytes, offset: int,
           size: int) -> Iterator[tuple[bytes, bytes]]:
  if data[offset + size:offset + size + _BLOCK_TRAILER_BYTES][:1] != b'\0':
    raise ValueError('a compressed index')
  block = data[offset:offset + size]
  restarts = int.from_bytes(block[-4:], 'little')
  end, position, key = size - 4 * (restarts + 1), 0, b''
  while position < end:
    shared, position = protobuf.read_varint(block, position)
    rest, position = protobuf.read_varint(block, position)
    length, position = protobuf.read_varint(block, position)
    key = key[:shared] + block[position:position + rest]
    position += rest
    yield key, block[position:position + length]
    position += length
