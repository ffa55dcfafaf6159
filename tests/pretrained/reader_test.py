"""The reader returns arrays and refuses everything that could run."""
import collections
import io
import json
import pathlib
import pickle
import struct
import tempfile
import zipfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.core import errors
from walt_jax.pretrained import reader


class _Evil:

  def __init__(self, function, *arguments):
    self._call = (function, arguments)

  def __reduce__(self):
    return self._call


def _global(module: str, name: str) -> bytes:
  return f'c{module}\n{name}\n'.encode()


def _text(value: str) -> bytes:
  return b'X' + struct.pack('<I', len(value)) + value.encode()


def _tensor(key: str, count: int, shape, stride, offset=0,
            storage='FloatStorage', extra=b'') -> bytes:
  """Protocol 2 instructions of torch._utils._rebuild_tensor_v2."""
  def numbers(values):
    return b'(' + b''.join(b'J' + struct.pack('<i', v) for v in values) + b't'
  identity = (b'(' + _text('storage') + _global('torch', storage) + _text(key)
              + _text('cpu') + b'J' + struct.pack('<i', count) + extra + b't')
  return (_global('torch._utils', '_rebuild_tensor_v2') + b'(' + identity
          + b'QJ' + struct.pack('<i', offset) + numbers(shape)
          + numbers(stride) + b'\x89' + _global('collections', 'OrderedDict')
          + b')RtR')


class ReaderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.folder = pathlib.Path(folder.name)

  def write(self, data: bytes, name: str = 'weights.bin') -> pathlib.Path:
    path = self.folder / name
    path.write_bytes(data)
    return path

  def zip_archive(self, program: bytes, order: str = 'little',
                  values: np.ndarray | None = None) -> pathlib.Path:
    values = np.arange(6, dtype='<f4') if values is None else values
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as archive:
      archive.writestr('archive/data.pkl', program)
      archive.writestr('archive/byteorder', order)
      archive.writestr('archive/data/0', values.tobytes())
      archive.writestr('archive/code/__torch__.py', 'raise SystemExit(1)')
    return self.write(stream.getvalue())

  @parameterized.parameters(2, 3, 4, 5)
  def test_pickled_arrays_come_back(self, protocol):
    tree = dict(
        a=np.arange(12, dtype=np.float32).reshape(3, 4),
        b=dict(c=np.asfortranarray(np.arange(6, dtype='>i2').reshape(2, 3)),
               d=np.float64(2.5), e=[np.zeros((0, 3)), None, True, 'x']),
        o=collections.OrderedDict(f=np.array(3, np.int64)))
    found = reader.read(self.write(pickle.dumps(tree, protocol)))
    np.testing.assert_array_equal(found['a'], tree['a'])
    np.testing.assert_array_equal(found['b']['c'], tree['b']['c'])
    self.assertEqual(found['b']['d'], 2.5)
    self.assertEqual(found['b']['e'][0].shape, (0, 3))
    self.assertEqual(found['b']['e'][1:], [None, True, 'x'])
    self.assertEqual(found['o']['f'], 3)
    self.assertEqual(set(reader.flatten(found)), {'a', 'b/c', 'o/f'})

  def test_shared_arrays_stay_equal(self):
    shared = np.arange(3.0)
    found = reader.read(self.write(pickle.dumps(dict(a=shared, b=shared))))
    self.assertIs(found['a'], found['b'])

  @parameterized.parameters(
      (_Evil(print, 'run'), 'builtins.print'),
      (_Evil(eval, '1'), 'builtins.eval'),
      (_Evil(pathlib.Path, 'x'), 'pathlib'),
      (np.array([_Evil(print, 'run')], object), 'print'),
      (_Evil(getattr, 'x', 'y'), 'builtins.getattr'),
  )
  def test_other_names_are_refused_by_name(self, evil, name):
    path = self.write(pickle.dumps(dict(x=evil)))
    with self.assertRaisesRegex(errors.UserError, name):
      reader.read(path)

  def test_object_arrays_are_refused(self):
    path = self.write(pickle.dumps(dict(x=np.array([{}, []], object))))
    with self.assertRaises(errors.UserError):
      reader.read(path)

  def test_state_cannot_be_set_on_names(self):
    # The trick of mutating what a global name stands for.
    program = (b'\x80\x02' + _global('collections', 'OrderedDict')
               + b'}' + _text('x') + b'K\x01sb.')
    with self.assertRaisesRegex(errors.UserError, 'state set'):
      reader.read(self.write(program))

  @parameterized.parameters(b'\x80\x04\x97.', b'\x80\x02i', b'\x80\x02K')
  def test_damage_is_one_line(self, program):
    with self.assertRaises(errors.UserError) as raised:
      reader.read(self.write(program))
    self.assertNotIn('\n', str(raised.exception))

  @parameterized.parameters('little', 'big')
  def test_torch_zip(self, order):
    values = np.arange(6, dtype='<f4' if order == 'little' else '>f4')
    program = (b'\x80\x02}' + _text('w') + _tensor('0', 6, (3, 2), (1, 3))
               + b's' + _text('b') + _tensor('0', 6, (2,), (1,), 4) + b's.')
    found = reader.read(self.zip_archive(program, order, values))
    np.testing.assert_array_equal(found['w'], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found['b'], [4, 5])
    self.assertEqual(found['w'].dtype, np.float32)

  @parameterized.parameters(((3, 3), (3, 1), 0), ((2,), (1,), 5),
                            ((2, 2), (-1, 1), 0))
  def test_tensor_outside_its_storage_is_refused(self, shape, stride, offset):
    program = b'\x80\x02}' + _text('w') + _tensor(
        '0', 6, shape, stride, offset) + b's.'
    with self.assertRaises(errors.UserError):
      reader.read(self.zip_archive(program))

  def test_script_archives_are_read_and_not_run(self):
    module = (_global('__torch__.torch.nn.Linear', 'Linear') + b')\x81}'
              + _text('weight') + _tensor('0', 6, (2, 3), (3, 1)) + b'sb')
    program = (b'\x80\x02' + _global('__torch__', 'Net') + b')\x81}'
               + _text('fc') + module + b'sb.')
    flat = reader.flatten(reader.read(self.zip_archive(program)), '.')
    self.assertEqual(list(flat), ['fc.weight'])
    self.assertEqual(flat['fc.weight'].shape, (2, 3))

  def test_torch_legacy(self):
    program = b'\x80\x02}' + _text('w') + _tensor(
        '7', 6, (2, 3), (3, 1), extra=b'N') + b's.'
    data = b''.join([
        pickle.dumps(0x1950a86a20f9469cfc6c, 2), pickle.dumps(1001, 2),
        pickle.dumps(dict(little_endian=True), 2), program,
        pickle.dumps(['7'], 2), struct.pack('<q', 6),
        np.arange(6, dtype='<f4').tobytes()])
    found = reader.read(self.write(data))
    np.testing.assert_array_equal(found['w'], [[0, 1, 2], [3, 4, 5]])
    with self.assertRaises(errors.UserError):
      reader.read(self.write(data[:-4]))

  def test_safetensors(self):
    header = json.dumps({
        '__metadata__': {'x': 'y'},
        'a': dict(dtype='F32', shape=[2, 2], data_offsets=[0, 16]),
        'b': dict(dtype='BF16', shape=[1], data_offsets=[16, 18])}).encode()
    body = np.arange(4, dtype='<f4').tobytes() + b'\x80\x3f'
    found = reader.read(self.write(struct.pack('<Q', len(header)) + header
                                   + body))
    np.testing.assert_array_equal(found['a'], [[0, 1], [2, 3]])
    self.assertEqual(float(found['b'][0]), 1.0)

  def test_sha256_is_checked(self):
    path = self.write(pickle.dumps({}))
    self.assertEqual(reader.read(path, sha256=reader.weights_sha256(path)), {})
    with self.assertRaisesRegex(errors.UserError, 'sha256'):
      reader.read(path, sha256='0' * 64)

  def test_absent_file_and_package(self):
    with self.assertRaisesRegex(errors.UserError, 'no weight file'):
      reader.read(self.folder / 'absent')
    with self.assertRaisesRegex(errors.UserError, 'some-package==1'):
      reader.package_file('no_such_package', 'x', 'some-package==1')


if __name__ == '__main__':
  absltest.main()
