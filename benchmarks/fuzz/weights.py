"""Readers of weights, vocabularies and exports."""
import collections
import io
import json
import pathlib
import pickle
import random
import struct
import zipfile

from flax import serialization
import numpy as np
from safetensors import numpy as safetensors_numpy
import tokenizers
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import processors

from benchmarks.fuzz import formats
from benchmarks.fuzz import mutations
from benchmarks.fuzz import reader as reader_lib
from walt_jax.core import exports
from walt_jax.core import protobuf
from walt_jax.pretrained import reader as weights
from walt_jax.pretrained import tensorflow_files
from walt_jax.text import tokenization
from walt_jax.text import weights as text_weights

Reader, Target = reader_lib.Reader, reader_lib.Target

_NO_ID = (1 << 64) - 1  # -1, as a protocol buffer has it.
_ARRAYS = {'a/kernel': np.arange(24, dtype=np.float32).reshape(2, 3, 4),
           'a/bias': np.arange(4, dtype=np.float16),
           'count': np.array(7, np.int64), 'empty': np.zeros((0, 3))}


def _tree() -> dict:
  return dict(
      a=dict(kernel=_ARRAYS['a/kernel'], bias=_ARRAYS['a/bias'],
             turned=np.asfortranarray(_ARRAYS['a/kernel'][0])),
      n=np.float64(2.5), l=[1, None, True, 'x', 2.5],
      o=collections.OrderedDict(f=_ARRAYS['count']))


def _file(name: str, *makers):
  """Weights in one file."""
  return lambda folder: reader_lib.of_file(
      folder / name, [make() for make in makers], weights.read)


def _safetensors() -> bytes:
  return safetensors_numpy.save(_ARRAYS, dict(made='by the fuzzer'))


def _npz(compressed: bool):
  def make() -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(
        out, **{name.replace('/', '.'): array
                for name, array in _ARRAYS.items()})
    return out.getvalue()
  return make


def _pickle(protocol: int):
  return lambda: pickle.dumps(_tree(), protocol)


def _global(module: str, name: str) -> bytes:
  return f'c{module}\n{name}\n'.encode()


def _text(value: str) -> bytes:
  return b'X' + struct.pack('<I', len(value)) + value.encode()


def _numbers(*values: int) -> bytes:
  return b'(' + b''.join(b'J' + struct.pack('<i', v) for v in values) + b't'


def _tensor(key: str, shape: tuple[int, ...], strides: tuple[int, ...],
            offset: int = 0, extra: bytes = b'') -> bytes:
  """Instructions of torch._utils._rebuild_tensor_v2 of six floats."""
  identity = (b'(' + _text('storage') + _global('torch', 'FloatStorage')
              + _text(key) + _text('cpu') + b'J' + struct.pack('<i', 6)
              + extra + b't')
  return (_global('torch._utils', '_rebuild_tensor_v2') + b'(' + identity
          + b'QJ' + struct.pack('<i', offset) + _numbers(*shape)
          + _numbers(*strides) + b'\x89' + _global('collections', 'OrderedDict')
          + b')RtR')


def _torch_program(extra: bytes = b'') -> bytes:
  return (b'\x80\x02}' + _text('w') + _tensor('0', (3, 2), (1, 3), 0, extra)
          + b's' + _text('b') + _tensor('0', (2,), (1,), 4, extra) + b's.')


def _torch_zip() -> bytes:
  out = io.BytesIO()
  values = np.arange(6, dtype='<f4').tobytes()
  with zipfile.ZipFile(out, 'w') as archive:
    for name, data in (('data.pkl', _torch_program()), ('data/0', values),
                       ('byteorder', b'little'), ('version', b'3\n')):
      # Without the present time: inputs are the same in every run.
      archive.writestr(zipfile.ZipInfo(f'archive/{name}'), data)
  return out.getvalue()


def _torch_legacy() -> bytes:
  system = dict(protocol_version=1001, little_endian=True,
                type_sizes=dict(short=2, int=4, long=4))
  return (pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps(1001, 2)
          + pickle.dumps(system, 2) + _torch_program(b'N')
          + pickle.dumps(['0'], 2) + (6).to_bytes(8, 'little')
          + np.arange(6, dtype='<f4').tobytes())


def _legacy(rng: random.Random, data: bytes) -> bytes:
  """Changes what lies behind the magic number of PyTorch's older files."""
  parts, stream = [], io.BytesIO(data)
  for _ in range(5):
    begin = stream.tell()
    for _ in formats.pickletools.genops(stream):
      pass
    parts.append(data[begin:stream.tell()])
  parts.append(data[stream.tell():])
  at = rng.choice((1, 2, 3, 3, 3, 4, 5))
  parts[at] = (mutations.edits if at == 5 else formats.pickle)(
      rng, parts[at])
  return b''.join(parts)


def _msgpack() -> bytes:
  return serialization.msgpack_serialize(dict(
      params=dict(a=_ARRAYS['a/kernel'], b=_ARRAYS['a/bias']),
      step=np.array(3)))


def _field(number: int, value: bytes | int) -> bytes:
  if isinstance(value, int):
    return protobuf.varint(number << 3) + protobuf.varint(value)
  return protobuf.field(number, value)


def _node(name: str, array: np.ndarray, *, packed: bool) -> bytes:
  """A GraphDef with one constant, which may be joined to others."""
  shape = b''.join(_field(2, _field(1, extent)) for extent in array.shape)
  content = _field(5 if packed else 4, array.astype('<f4').tobytes())
  tensor = _field(1, 1) + _field(2, shape) + content
  entry = _field(1, b'value') + _field(2, _field(8, tensor))
  return _field(1, _field(1, name.encode()) + _field(2, b'Const')
                + _field(5, entry))


def _graph() -> bytes:
  array = _ARRAYS['a/kernel']
  return (_node('a', array, packed=False) + _node('b', array[0], packed=True)
          + _node('same', np.ones(1), packed=True))


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
  out = b''
  for key, value in entries:
    out += (b'\0' + protobuf.varint(len(key)) + protobuf.varint(len(value))
            + key + value)
  return out + (0).to_bytes(4, 'little') + (1).to_bytes(4, 'little')


def _table(entries: list[tuple[bytes, bytes]]) -> bytes:
  """A LevelDB table of one block, as `.index` files are."""
  data = _block(entries)
  handle = protobuf.varint(0) + protobuf.varint(len(data))
  out = data + bytes(5)
  meta, index = _block([]), _block([(b'z', handle)])
  meta_handle = protobuf.varint(len(out)) + protobuf.varint(len(meta))
  out += meta + bytes(5)
  index_handle = protobuf.varint(len(out)) + protobuf.varint(len(index))
  out += index + bytes(5)
  return (out + (meta_handle + index_handle).ljust(40, b'\0')
          + tensorflow_files.INDEX_MAGIC)


_CHECKPOINT_ENTRIES = [
    (b'', _field(1, 1)),
    (b'a', _field(1, 1) + _field(2, _field(2, _field(1, 2))
                                 + _field(2, _field(1, 3)))
     + _field(4, 0) + _field(5, 24)),
    (b'b', _field(1, 1) + _field(2, _field(2, _field(1, 2)))
     + _field(4, 24) + _field(5, 8))]


def _index(rng: random.Random, data: bytes) -> bytes:
  """Changes entries of a checkpoint's table, or bytes before its magic."""
  if rng.random() < 0.3:
    body = mutations.edits(rng, data[:-8])
    return body + data[-8:]
  entries = list(_CHECKPOINT_ENTRIES)
  at = rng.randrange(len(entries))
  key, value = entries[at]
  entries[at] = rng.choice((
      (key, formats.protobuf(rng, value)),
      (key, formats.protobuf(rng, value)),
      (mutations.edits(rng, key), value), (b'', value)))
  return _table(entries)


def _checkpoint(folder: pathlib.Path) -> Target:
  folder.mkdir(parents=True, exist_ok=True)
  values = np.arange(8, dtype='<f4').tobytes()
  (folder / 'x.data-00000-of-00001').write_bytes(values)
  return reader_lib.of_file(folder / 'x.index', [_table(_CHECKPOINT_ENTRIES)],
                            weights.read)


def _text_folder(folder: pathlib.Path) -> Target:
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text('{"d_model": 4}')

  def call(_: pathlib.Path):
    found = text_weights.SafetensorsFolder(folder)
    for name in list(found._files)[:8]:
      found.read(name)

  return reader_lib.of_file(folder / text_weights.SINGLE, [_safetensors()],
                            call)


def _text_index(folder: pathlib.Path) -> Target:
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text('{"d_model": 4}')
  (folder / 'one.safetensors').write_bytes(_safetensors())

  def call(_: pathlib.Path):
    found = text_weights.SafetensorsFolder(folder)
    for name in ('a/kernel', 'count'):
      found.read(name)

  seed = json.dumps(dict(metadata=dict(total_size=9), weight_map=dict.fromkeys(
      _ARRAYS, 'one.safetensors'))).encode()
  return reader_lib.of_file(folder / text_weights.INDEX, [seed], call)


def _word_piece(folder: pathlib.Path) -> Target:
  folder.mkdir(parents=True, exist_ok=True)
  words = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a', 'seven', 'moves', 'left')
  tokenizer = tokenizers.Tokenizer(models.WordLevel(
      {word: number for number, word in enumerate(words)}, unk_token='[UNK]'))
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.post_processor = processors.TemplateProcessing(
      single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)])

  def call(path: pathlib.Path):
    found = tokenization.WordPieceTokenizer(path, 8)
    found(['a seven moves left', ''])
    found.kept_text('a seven moves left and on and on')

  return reader_lib.of_file(
      folder / 'tokenizer.json', [tokenizer.to_str().encode()], call)


def _vocabulary() -> bytes:
  """A SentencePiece model: a ModelProto of unigrams, as T5's are."""
  def piece(text: str, score: float, kind: int) -> bytes:
    return _field(1, _field(1, text.encode()) + protobuf.varint(2 << 3 | 5)
                  + struct.pack('<f', score) + _field(3, kind))
  trainer = b''.join(_field(number, value) for number, value in (
      (3, 1), (4, 12), (40, 2), (41, _NO_ID), (42, 1), (43, 0)))
  return (piece('<pad>', 0, 3) + piece('</s>', 0, 3) + piece('<unk>', 0, 2)
          + b''.join(piece(text, -1.0 - number, 1) for number, text in
                     enumerate(('▁a', '▁', 's', 'e', 'v', 'n', 'se', 'ven')))
          + _field(2, trainer) + _field(3, _field(1, b'identity')))


def _sentence_piece(folder: pathlib.Path) -> Target:
  def call(path: pathlib.Path):
    found = tokenization.SentencePieceTokenizer(path, 8)
    found(['a seven', 'é', ''])
    found.kept_text('a seven a seven a seven')

  return reader_lib.of_file(folder / 'spiece.model', [_vocabulary()], call)


def _export(folder: pathlib.Path) -> Target:
  folder.mkdir(parents=True, exist_ok=True)
  (folder / exports.CONFIG_FILE).write_text('{}')
  flat = {name: value for name, value in _ARRAYS.items()}
  return reader_lib.of_file(
      folder / exports.MODEL_FILE, [safetensors_numpy.save(flat)],
      lambda path: exports.load_export(path.parent))


READERS = (
    Reader('weights.safetensors', _file('w.safetensors', _safetensors),
           formats.safetensors, formats.has_safetensors_header),
    Reader('weights.npz', _file('w.npz', _npz(False), _npz(True)),
           formats.NPZ, formats.is_archive, memory_mib=256),
    Reader('weights.pickle', _file('w.ckpt', _pickle(2), _pickle(4),
                                   _pickle(5)),
           formats.pickle, formats.is_pickle),
    Reader('weights.torch', _file('w.pt', _torch_zip),
           formats.archive(lambda name: formats.pickle
                             if name.endswith('.pkl') else mutations.edits),
           formats.is_archive, memory_mib=256),
    Reader('weights.torch_older', _file('w.pth', _torch_legacy),
           mutations.one_of((8, _legacy), (2, mutations.edits)),
           formats.starts(b'\x80\x02\x8a\x0a')),
    Reader('weights.flax', _file('w.flax', _msgpack),
           mutations.one_of((8, mutations.behind(1)), (2, mutations.edits)),
           formats.starts(b'\x82')),
    Reader('weights.tensorflow_graph', _file('w.pb', _graph),
           formats.PROTOBUF, formats.starts(b'\n')),
    Reader('weights.tensorflow_index', _checkpoint, _index,
           lambda data: data[-8:] == tensorflow_files.INDEX_MAGIC),
    Reader('text.safetensors', _text_folder, formats.safetensors,
           formats.has_safetensors_header),
    Reader('text.index', _text_index, mutations.JSON, mutations.is_json),
    Reader('text.tokenizer_json', _word_piece, mutations.JSON,
           mutations.is_json),
    Reader('text.sentencepiece', _sentence_piece, formats.PROTOBUF,
           formats.is_message),
    Reader('export.safetensors', _export, formats.safetensors,
           formats.has_safetensors_header),
)
