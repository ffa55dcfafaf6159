"""One reader of work directories and exports."""
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.training import logging
from walt_jax.training import state as train_state
from walt_jax.training import workdir as workdir_lib


class WorkDirTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())) / 'run'
    self.workdir = workdir_lib.WorkDir(self.path)

  def write_config(self, **config):
    self.path.mkdir(exist_ok=True)
    (self.path / 'config.json').write_text(json.dumps(config))

  def export(self, *parts: str) -> pathlib.Path:
    folder = self.path.joinpath(*parts)
    exports.save_export(folder, {'w': np.zeros(1)}, {})
    return folder

  def test_config(self):
    with self.assertRaisesRegex(errors.UserError, 'no work directory.*--work'):
      self.workdir.config()
    self.write_config(stage='denoiser')
    self.assertEqual(self.workdir.config(), {'stage': 'denoiser'})
    self.workdir.config_file.write_text('{"a": ')
    with self.assertRaisesRegex(errors.UserError, 'is not JSON.*restore it'):
      self.workdir.config()

  def test_checkpoints_under_way_do_not_count(self):
    self.assertEqual(self.workdir.steps(), [])
    self.assertIsNone(self.workdir.newest_step())
    with self.assertRaisesRegex(errors.UserError, 'has no checkpoint; train'):
      self.workdir.checkpoint()
    for name in ('5', '40', '100', '200.orbax-checkpoint-tmp-1'):
      (self.path / 'checkpoints' / name).mkdir(parents=True)
    self.assertEqual(self.workdir.steps(), [5, 40, 100])
    self.assertEqual(self.workdir.newest_step(), 100)
    self.assertEqual(self.workdir.checkpoint().name, '100')
    self.assertEqual(self.workdir.checkpoint(5).name, '5')
    self.assertTrue(self.workdir.checkpoint().is_absolute())
    with self.assertRaisesRegex(
        errors.UserError, 'no checkpoint of step 200, only of 5, 40, 100'):
      self.workdir.checkpoint(200)

  @parameterized.parameters(
      ([0.9, 0.9999, 0.99], 'ema/0.9999'), ([0.5], 'ema/0.5'), ([], 'params'))
  def test_weights(self, decays, name):
    self.write_config(ema=decays)
    self.assertEqual(self.workdir.weights(), name)

  def test_where_the_tokenizer_is(self):
    with self.assertRaisesRegex(errors.UserError, 'no trained tokenizer'):
      self.workdir.tokenizer()
    for parts in ((), ('tokenizer',), ('export',)):
      folder = self.export(*parts)
      self.assertEqual(self.workdir.tokenizer(), folder)

  def test_an_export_is_one(self):
    self.assertFalse(self.workdir.is_export)
    self.export('tokenizer')  # A denoiser's work directory.
    self.assertFalse(self.workdir.is_export)
    self.export()
    self.assertTrue(self.workdir.is_export)

  def test_metrics_that_were_written(self):
    writer = logging.Writer(self.path, writers=())
    writer.write_scalars(3, {'a': 0.1})
    writer.close()
    self.assertEqual(self.workdir.metrics().lines, ({'step': 3, 'a': 0.1},))


class AverageTest(absltest.TestCase):

  def test_by_number_not_by_letters(self):
    self.assertEqual(
        train_state.longest_average(['1e-1', '0.9', '0.99']), '0.99')
    self.assertEqual(train_state.longest_average([0.9, 9e-5]), 0.9)

  def test_without_averages_the_parameters(self):
    self.assertEqual(train_state.averaged({}, 'params'), 'params')
    self.assertEqual(
        train_state.averaged({'0.9': 'a', '0.99': 'b'}, 'params'), 'b')


if __name__ == '__main__':
  absltest.main()
