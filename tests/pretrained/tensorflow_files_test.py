"""TensorFlow's files are read without TensorFlow, and equal what it wrote."""
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np
import pytest

from walt_jax.core import errors
from walt_jax.pretrained import reader


def _varint(value: int) -> bytes:
  out = b''
  while True:
    value, low = value >> 7, value & 0x7f
    out += bytes([low | (0x80 if value else 0)])
    if not value:
      return out


def _field(number: int, value: bytes | int) -> bytes:
  if isinstance(value, int):
    return _varint(number << 3) + _varint(value)
  return _varint(number << 3 | 2) + _varint(len(value)) + value


def constant_node(name: str, array: np.ndarray, *, packed: bool = False,
                  operation: bytes = b'Const') -> bytes:
  """A GraphDef with one node, which may be joined to others."""
  shape = b''.join(_field(2, _field(1, extent)) for extent in array.shape)
  content = _field(5 if packed else 4, array.astype('<f4').tobytes())
  tensor = _field(1, 1) + _field(2, shape) + content
  entry = _field(1, b'value') + _field(2, _field(8, tensor))
  dtype = _field(1, b'dtype') + _field(2, _field(6, 1))
  node = (_field(1, name.encode()) + _field(2, operation) + _field(5, dtype)
          + _field(5, entry))
  return _field(1, node)


class TensorflowFilesTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def test_frozen_graph(self):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(4,))
    path = self.folder / 'graph.pb'
    path.write_bytes(
        constant_node('a/w', a) + constant_node('b', b, packed=True)
        + constant_node('same', np.full((5, 2), 7.0)[:0].reshape(0, 2))
        + constant_node('run me', b, operation=b'PyFunc'))
    found = reader.read(path)
    np.testing.assert_array_equal(found['a/w'], a.astype(np.float32))
    np.testing.assert_array_equal(found['b'], b.astype(np.float32))
    self.assertNotIn('run me', found)

  def test_damaged_files_are_one_line(self):
    whole = constant_node('a', np.ones((300,)))
    path = self.folder / 'graph.pb'
    path.write_bytes(whole[:200])
    with self.assertRaisesRegex(errors.UserError, 'not a readable') as raised:
      reader.read(path)
    self.assertNotIn('\n', str(raised.exception))

  def test_what_tensorflow_writes(self):
    tf = pytest.importorskip('tensorflow')
    rng = np.random.default_rng(1)
    arrays = {f'scope/unit_{i}/w': rng.normal(size=(i + 1, 3)).astype(
        np.float32) for i in range(40)}
    arrays['filled'] = np.full((50, 7), 0.25, np.float32)
    prefix = str(self.folder / 'variables')
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=list(arrays),
        shape_and_slices=[''] * len(arrays),
        tensors=[tf.constant(a) for a in arrays.values()])
    graph = tf.Graph()
    with graph.as_default():
      for name, array in arrays.items():
        tf.constant(array, name=name)
      tf.constant(0.5, shape=(3, 2), name='broadcast')
    path = self.folder / 'graph.pb'
    path.write_bytes(graph.as_graph_def().SerializeToString())
    from_graph = reader.read(path)
    np.testing.assert_array_equal(from_graph.pop('broadcast'),
                                  np.full((3, 2), 0.5))
    index = self.folder / 'variables.index'
    for found in (reader.read(index), from_graph):
      self.assertEqual(found.keys(), arrays.keys())
      for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    # The digest covers the values, which lie in another file.
    digest = reader.weights_sha256(index)
    data = self.folder / 'variables.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:-4] + b'abcd')
    self.assertNotEqual(reader.weights_sha256(index), digest)

  def test_npz_and_flax(self):
    from flax import serialization
    rng = np.random.default_rng(2)
    tree = dict(params=dict(conv=dict(kernel=rng.normal(size=(2, 3)).astype(
        np.float32))))
    path = self.folder / 'weights.flax'
    path.write_bytes(serialization.to_bytes(tree))
    np.testing.assert_array_equal(
        reader.read(path)['params']['conv']['kernel'],
        tree['params']['conv']['kernel'])
    np.savez(self.folder / 'w.npz', **{'conv1a/W': np.ones((2, 2))})
    self.assertEqual(list(reader.read(self.folder / 'w.npz')), ['conv1a/W'])


if __name__ == '__main__':
  absltest.main()
