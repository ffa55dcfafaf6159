"""An interpreter for the part of pickle that stores data.

Python's own unpickler calls whatever a file names. This one calls nothing:
`pickletools` splits the file into instructions, and each of the few that
plain data need is carried out here. A global name may only be one of
`_BUILDERS` and `_TYPES`; TorchScript's own classes (`__torch__...`) become
plain dictionaries of their attributes.
"""
from collections.abc import Callable
import pickletools
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from walt_jax.core import errors

# (storage key, element type, number of elements) -> flat array.
LoadStorage = Callable[[str, np.dtype, int], np.ndarray]

_STORAGES = {
    'DoubleStorage': np.float64, 'FloatStorage': np.float32,
    'HalfStorage': np.float16, 'BFloat16Storage': ml_dtypes.bfloat16,
    'LongStorage': np.int64, 'IntStorage': np.int32, 'ShortStorage': np.int16,
    'CharStorage': np.int8, 'ByteStorage': np.uint8, 'BoolStorage': np.bool_,
}


class _Mark:
  """Where a MARK instruction left off."""


class _Name:
  """A global name that data may mention."""

  def __init__(self, name: str):
    self.name = name


class _Box:
  """An object under construction: its builder's name, then its value."""

  def __init__(self, kind: str, value: Any = None):
    self.kind = kind
    self.value = value


class _Dtype:
  """A NumPy element type; its byte order comes in a BUILD instruction."""

  def __init__(self, text: str):
    self.text = text
    self.order = '='

  def resolve(self) -> np.dtype:
    dtype = np.dtype(self.text)
    if dtype.kind not in 'biufcSU' or dtype.fields:
      raise errors.UserError(
          f'NumPy type {self.text} is not plain numbers; save plain arrays')
    if self.order == '>':
      return dtype.newbyteorder('>')
    return dtype.newbyteorder('<') if self.order == '<' else dtype


def run(
    stream: BinaryIO, source: str, load_storage: LoadStorage | None = None
) -> Any:
  """Reads one pickled object and leaves the stream behind its end.

  Args:
    stream: Positioned at a pickle.
    source: The file's name, for messages.
    load_storage: Function that turns PyTorch's persistent ids into flat arrays.

  Raises:
    errors.UserError: The pickle names a global that is not plain data.
  """
  return _Machine(source, load_storage).run(stream)


class _Machine:
  """The stack, the memo and one method for each kind of instruction."""

  def __init__(self, source: str, load_storage: LoadStorage | None):
    self._source = source
    self._load_storage = load_storage
    self._stack: list[Any] = []
    self._memo: dict[int, Any] = {}

  def run(self, stream: BinaryIO) -> Any:
    argument: Any
    for opcode, argument, _ in pickletools.genops(stream):
      name = opcode.name
      if name == 'STOP':
        return _unbox(self._stack.pop(), {})
      if name in _LITERALS:
        self._stack.append(argument)
      elif name in _CONSTANTS:
        self._stack.append(_CONSTANTS[name]())
      elif name in ('PROTO', 'FRAME'):
        pass
      elif name in ('PUT', 'BINPUT', 'LONG_BINPUT'):
        self._memo[argument] = self._stack[-1]
      elif name == 'MEMOIZE':
        self._memo[len(self._memo)] = self._stack[-1]
      elif name in ('GET', 'BINGET', 'LONG_BINGET'):
        self._stack.append(self._memo[argument])
      elif name in _TUPLES:
        count = _TUPLES[name]
        items = tuple(self._stack[len(self._stack) - count:])
        del self._stack[len(self._stack) - count:]
        self._stack.append(items)
      elif name == 'GLOBAL':
        module, attribute = argument.split(' ', 1)
        self._stack.append(self._global(module, attribute))
      elif name == 'STACK_GLOBAL':
        attribute, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._global(module, attribute))
      else:
        self._structure(name, argument)
    raise errors.UserError(
        f'{self._source} ends inside a pickle; fetch it again')

  def _structure(self, name: str, argument: Any):
    stack = self._stack
    if name == 'TUPLE':
      stack.append(tuple(self._pop_mark()))
    elif name == 'LIST':
      stack.append(self._pop_mark())
    elif name == 'DICT':
      stack.append(_pairs(self._pop_mark()))
    elif name == 'APPEND':
      item = stack.pop()
      stack[-1].append(item)
    elif name == 'APPENDS':
      items = self._pop_mark()
      stack[-1].extend(items)
    elif name == 'ADDITEMS':
      items = self._pop_mark()
      stack[-1].update(items)
    elif name == 'SETITEM':
      value, key = stack.pop(), stack.pop()
      _dict_of(stack[-1])[key] = value
    elif name == 'SETITEMS':
      items = self._pop_mark()
      _dict_of(stack[-1]).update(_pairs(items))
    elif name == 'POP':
      stack.pop()
    elif name == 'POP_MARK':
      self._pop_mark()
    elif name == 'DUP':
      stack.append(stack[-1])
    elif name in ('REDUCE', 'NEWOBJ'):
      arguments, target = stack.pop(), stack.pop()
      stack.append(self._build_object(target, arguments))
    elif name == 'BUILD':
      state = stack.pop()
      _set_state(stack[-1], state)
    elif name == 'BINPERSID':
      stack.append(self._persistent(stack.pop()))
    else:
      raise errors.UserError(
          f'{self._source} uses the pickle instruction {name}, which plain '
          'data never need; save plain arrays')

  def _pop_mark(self) -> list[Any]:
    for index in range(len(self._stack) - 1, -1, -1):
      if isinstance(self._stack[index], _Mark):
        items = self._stack[index + 1:]
        del self._stack[index:]
        return items
    raise ValueError('a pickle without a mark')

  def _global(self, module: str, attribute: str) -> _Name:
    name = f'{module}.{attribute}'
    is_script = module == '__torch__' or module.startswith('__torch__.')
    if name in _BUILDERS or name in _TYPES:
      return _Name(name)
    if is_script:
      return _Name('__torch__')
    raise errors.UserError(
        f'{self._source} names {name}, which is not plain data; nothing was '
        'run: save the arrays alone (safetensors)')

  def _build_object(self, target: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(target, _Name) or target.name in _TYPES:
      label = getattr(target, 'name', type(target).__name__)
      raise errors.UserError(
          f'{self._source} calls {label}, which is not a builder of plain '
          'data; save the arrays alone (safetensors)')
    if target.name == '__torch__':
      return {}
    return _BUILDERS[target.name](arguments)

  def _persistent(self, identity: Any) -> np.ndarray:
    if self._load_storage is None or identity[0] != 'storage':
      raise ValueError(f'persistent id {identity!r} outside a tensor archive')
    kind, key, count = identity[1], identity[2], identity[4]
    dtype = _STORAGES[kind.name.rsplit('.', 1)[-1]]
    return self._load_storage(str(key), np.dtype(dtype), int(count))


def _pairs(items: list[Any]) -> dict[Any, Any]:
  return dict(zip(items[::2], items[1::2], strict=True))


def _dict_of(target: Any) -> dict[Any, Any]:
  if not isinstance(target, dict):
    raise ValueError(f'items set on a {type(target).__name__}')
  return target


def _set_state(target: Any, state: Any):
  if isinstance(target, _Dtype):
    target.order = state[1]
  elif isinstance(target, _Box) and target.kind == 'array':
    target.value = state
  elif isinstance(target, dict):
    if isinstance(state, dict):  # A TorchScript object's attributes.
      target.update(state)
  else:
    raise ValueError(f'state set on a {type(target).__name__}')


def _tensor(arguments: tuple[Any, ...]) -> _Box:
  return _Box('tensor', arguments[:4])


def _array_from_state(state: Any, memo: dict[int, Any]) -> np.ndarray:
  _, shape, dtype, is_fortran, raw = state
  raw = _unbox(raw, memo)
  raw = raw.encode('latin1') if isinstance(raw, str) else raw
  if not isinstance(raw, bytes | bytearray):
    raise ValueError('an array that holds objects')
  values = np.frombuffer(raw, dtype.resolve())
  return values.reshape(shape, order='F' if is_fortran else 'C')


def _finish(box: _Box, memo: dict[int, Any]) -> np.ndarray:
  """Turns a finished record into an array."""
  if box.kind == 'array':
    return _array_from_state(box.value, memo)
  if box.kind == 'buffer':
    raw, dtype, shape, order = box.value
    return np.frombuffer(raw, dtype.resolve()).reshape(shape, order=order)
  if box.kind == 'scalar':
    dtype, raw = box.value[0], _unbox(box.value[1], memo)
    return np.frombuffer(raw, dtype.resolve())[0]
  storage, offset, shape, strides = box.value
  if min((offset, *shape, *strides), default=0) < 0:
    raise ValueError('a tensor with a negative extent')
  if 0 not in shape:
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides,
                                                    strict=True))
    if last >= storage.size:
      raise ValueError('a tensor reaches beyond its storage')
  strides = tuple(s * storage.itemsize for s in strides)
  return np.ascontiguousarray(np.lib.stride_tricks.as_strided(
      storage[offset:], shape, strides, writeable=False)).reshape(shape)


def _unbox(value: Any, memo: dict[int, Any]) -> Any:
  """Replaces records by arrays; shared containers stay shared."""
  if id(value) in memo:
    return memo[id(value)][0]
  result: Any
  # The original stays in the memo, so that its id is not given away.
  if isinstance(value, _Box):
    result = _finish(value, memo)
    memo[id(value)] = (result, value)
    return result
  if isinstance(value, dict):
    result = {}
    memo[id(value)] = (result, value)
    result.update({k: _unbox(v, memo) for k, v in value.items()})
    return result
  if isinstance(value, list):
    result = []
    memo[id(value)] = (result, value)
    result.extend(_unbox(v, memo) for v in value)
    return result
  if isinstance(value, tuple):
    return tuple(_unbox(v, memo) for v in value)
  if isinstance(value, _Name):
    return value.name
  return value


_LITERALS = frozenset((
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT',
    'BINFLOAT', 'STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE',
    'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES',
    'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'))

_CONSTANTS: dict[str, Callable[[], Any]] = {
    'NONE': lambda: None, 'NEWTRUE': lambda: True, 'NEWFALSE': lambda: False,
    'EMPTY_TUPLE': tuple, 'EMPTY_LIST': list, 'EMPTY_DICT': dict,
    'EMPTY_SET': set, 'MARK': _Mark,
}

_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}

# Names that data mention but never call.
_TYPES = frozenset(
    {'numpy.ndarray'} | {f'torch.{name}' for name in _STORAGES})

# What each callable name stands for here; nothing of NumPy or PyTorch is run.
_BUILDERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    'numpy.core.multiarray._reconstruct': lambda args: _Box('array'),
    'numpy._core.multiarray._reconstruct': lambda args: _Box('array'),
    'numpy.core.numeric._frombuffer': lambda args: _Box('buffer', args),
    'numpy._core.numeric._frombuffer': lambda args: _Box('buffer', args),
    'numpy.core.multiarray.scalar': lambda args: _Box('scalar', args),
    'numpy._core.multiarray.scalar': lambda args: _Box('scalar', args),
    'numpy.dtype': lambda args: _Dtype(args[0]),
    '__builtin__.bytes': lambda args: b''.join(args),  # Of no bytes at all.
    '_codecs.encode': lambda args: args[0].encode('latin1'),
    'collections.OrderedDict': lambda args: dict(*args),
    'torch.Size': lambda args: tuple(args[0]),
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_parameter': lambda args: args[0],
    'torch.jit._pickle.build_intlist': lambda args: args[0],
    'torch.jit._pickle.build_doublelist': lambda args: args[0],
    'torch.jit._pickle.build_boollist': lambda args: args[0],
    'torch.jit._pickle.build_tensorlist': lambda args: args[0],
    'torch.jit._pickle.restore_type_tag': lambda args: args[0],
}
