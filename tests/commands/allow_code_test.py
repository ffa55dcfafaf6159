"""A shared work directory must not run code: no command imports what it names.
"""
import json
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.e2e import tiny
from walt_jax.builders import config as config_lib
from walt_jax.core import exports
from walt_jax.training import replay_bundles

NAME = 'hostile_module:Chosen'
CONFIG = f'{tiny.QUICKSTART}:smoke'
_HOSTILE = '''import pathlib
pathlib.Path({marker!r}).write_text('imported')
class Chosen:
  def rows(self): ...
  def init(self): ...
  def step(self): ...
'''


class AllowCodeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.marker = self.folder / 'marker'
    (self.folder / 'hostile_module.py').write_text(
        _HOSTILE.format(marker=str(self.marker)))
    self.enterContext(mock.patch.object(
        sys, 'path', [str(self.folder), *sys.path]))
    self.addCleanup(sys.modules.pop, 'hostile_module', None)
    self.workdir = self.folder / 'runs' / 'shared'
    self.workdir.mkdir(parents=True)
    self.write({'sampler.sampler': NAME})

  def write(self, changes):
    """Writes the work directory's config with these values in it."""
    values = config_lib.to_dict(config_lib.load(CONFIG))
    for key, value in changes.items():
      section, _, name = key.partition('.')
      values[section][name] = value
    (self.workdir / 'config.json').write_text(json.dumps(
        values | {config_lib.DERIVED: dict(classes=['a:b'])}))

  def commands(self):
    """Every command that reads a work directory."""
    workdir = ('--workdir', str(self.workdir))
    np.save(self.folder / 'clips.npy', np.zeros((2, 9, 32, 32, 3), np.uint8))
    return {
        'sample': ('sample', *workdir, '--out', str(self.folder / 'out')),
        'evaluate': ('evaluate', 'fvd', *workdir,
                     '--real', str(self.folder / 'clips.npy'),
                     '--json', str(self.folder / 'scores.json')),
        'export': ('export', *workdir, '--out', str(self.folder / 'out')),
        'demo': ('demo', *workdir),
        'train': ('train', '--config', CONFIG, *workdir),
    }

  @parameterized.parameters('sample', 'evaluate', 'export', 'demo')
  def test_a_name_in_a_work_directory_is_refused(self, command):
    result = tiny.walt(*self.commands()[command])
    self.assertEqual(result.code, 2, result.err)
    self.assertFalse(self.marker.exists())
    self.assertRegex(
        result.err, rf"^walt: error: \S+shared/config.json: sampler.sampler is "
        f"'{NAME}'.*--allow_code.*\n$")

  @parameterized.parameters('data.name', 'model.conditions', 'text.name',
                            'train.evaluators', 'tokenizer.random')
  def test_wherever_it_stands(self, key):
    self.write({key: NAME})
    for command in ('sample', 'evaluate', 'export', 'demo'):
      result = tiny.walt(*self.commands()[command])
      self.assertEqual(result.code, 2, result.err)
      self.assertIn(f'config.json: {key} is {NAME!r}', result.err)
    self.assertFalse(self.marker.exists())

  def test_resuming_imports_only_what_was_typed(self):
    self.write({'sampler.sampler': NAME, 'data.name': NAME})
    result = tiny.walt(*self.commands()['train'])
    self.assertEqual(result.code, 2, result.err)
    self.assertIn('data.name', result.err)
    self.assertFalse(self.marker.exists())

  def test_report_reads_without_importing(self):
    (self.workdir / 'metrics.jsonl').write_text(
        json.dumps({'step': 1, 'train/loss': 1.0}) + '\n')
    result = tiny.walt('report', str(self.workdir.parent))
    self.assertEqual(result.code, 0, result.err)
    self.assertFalse(self.marker.exists())

  def test_a_bundle_is_not_trusted_either(self):
    bundle = self.workdir / 'replay' / 'step_1'
    failure = mock.Mock(config=json.loads(
        (self.workdir / 'config.json').read_text()))
    with mock.patch.object(replay_bundles, 'read_failure',
                           return_value=failure):
      result = tiny.walt('train', '--replay', bundle)
    self.assertEqual(result.code, 2, result.err)
    self.assertIn('--allow_code', result.err)
    self.assertFalse(self.marker.exists())

  @parameterized.parameters('evaluate', 'train', 'data')
  def test_a_tokenizer_is_not_trusted_either(self, command):
    kernel = np.zeros((2, 2), np.float32)
    export = self.folder / 'tokenizer'
    exports.save_export(
        export, dict(encoder=dict(kernel=kernel), decoder=dict(kernel=kernel),
                     statistics=dict(mean=kernel[0], std=kernel[0])),
        dict(model=dict(name=NAME)))
    clips = str(self.folder / 'clips')
    flags = {
        'evaluate': ('evaluate', 'reconstruction', '--workdir', str(export),
                     '--real', f'{clips}.npy',
                     '--json', str(self.folder / 'scores.json')),
        'train': ('train', '--config', CONFIG, '--workdir',
                  str(self.folder / 'new'),
                  f'--config.tokenizer.workdir={export}'),
        'data': ('data', 'prepare', '--input', clips, '--output',
                 str(self.folder / 'cache'), '--latents',
                 '--workdir', str(export)),
    }
    self.commands()  # Writes the clips.
    if command == 'data':
      made = tiny.walt('data', 'render', 'moving_digits', '--num', '2',
                       '--output', clips)
      self.assertEqual(made.code, 0, made.err)
    result = tiny.walt(*flags[command])
    self.assertEqual(result.code, 2, result.err)
    self.assertRegex(result.err, f"name is '{NAME}'.*--allow_code")
    self.assertFalse(self.marker.exists())
    result = tiny.walt(*flags[command], '--allow_code')
    self.assertRegex(result.err, 'lacks __call__, decode, encode')
    self.assertTrue(self.marker.exists())

  @parameterized.parameters('sample', 'export')
  def test_allowed_it_is_imported(self, command):
    result = tiny.walt(*self.commands()[command], '--allow_code')
    self.assertEqual(result.code, 2, result.err)  # There is no checkpoint.
    self.assertNotIn(NAME, result.err)
    self.assertTrue(self.marker.exists())


if __name__ == '__main__':
  absltest.main()
