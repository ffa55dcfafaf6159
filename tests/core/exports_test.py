"""Exports read back what was written, or say in one line why not."""
import os
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np

from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.core import files


class ExportsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())) / 'export'
    self.params = {
        'net': {'kernel': np.arange(6, dtype=np.float32).reshape(2, 3).T,
                'scale': np.float32(2)},
        'statistics': {'mean': np.zeros(3, np.float32)}}

  def test_round_trip(self):
    digest = exports.save_export(self.path, self.params, {'a': [1, None]})
    params, config = exports.load_export(self.path)
    self.assertEqual(config, {'a': [1, None]})
    self.assertEqual(params['net']['scale'].shape, ())
    np.testing.assert_array_equal(
        params['net']['kernel'], self.params['net']['kernel'])
    self.assertEqual(
        digest, files.file_sha256(self.path / exports.MODEL_FILE))
    self.assertEqual(sorted(p.name for p in self.path.iterdir()),
                     ['config.json', 'model.safetensors'])

  def test_the_umask_decides_who_may_read(self):
    self.addCleanup(os.umask, os.umask(0o027))
    exports.save_export(self.path, self.params, {})
    for file in self.path.iterdir():
      self.assertEqual(file.stat().st_mode & 0o777, 0o640, file.name)

  def test_equal_parameters_give_an_equal_file(self):
    first = exports.save_export(self.path, self.params, {})
    reordered = dict(reversed(self.params.items()))
    self.assertEqual(first, exports.save_export(self.path, reordered, {}))

  def test_damage_and_absence_are_one_line(self):
    with self.assertRaisesRegex(errors.UserError, 'is no export'):
      exports.load_export(self.path)
    exports.save_export(self.path, self.params, {})
    model = self.path / exports.MODEL_FILE
    model.write_bytes(model.read_bytes()[:40])
    with self.assertRaisesRegex(errors.UserError, 'cannot be read'):
      exports.load_export(self.path)

  def test_a_failed_save_leaves_the_old_export(self):
    exports.save_export(self.path, self.params, {'v': 1})
    with self.assertRaises(TypeError):
      exports.save_export(self.path, self.params, {'v': object()})
    self.assertEqual(exports.load_export(self.path)[1], {'v': 1})

  def test_keys_that_cannot_be_written(self):
    with self.assertRaisesRegex(ValueError, 'a/b'):
      exports.save_export(self.path, {'a/b': np.ones(1)}, {})


if __name__ == '__main__':
  absltest.main()
