"""Bad input: one line, exit code 2, and nothing half-written."""
import json
import os
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.e2e import tiny
from walt_jax.core import exports
from walt_jax.core import files
from walt_jax.tokenizer import statistics as statistics_lib


class ErrorsTestCase(parameterized.TestCase):

  def new_dir(self) -> pathlib.Path:
    return pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / 'w'

  def assert_refused(self, result: tiny.Result, *named: str) -> None:
    """Exit code 2 and one line on standard error, which names all of these."""
    self.assertEqual(result.code, 2, result.err)
    self.assertRegex(result.err, r'\Awalt: error: [^\n]+\n\Z')
    for text in named:
      self.assertIn(str(text), result.err)


class TrainErrorsTest(ErrorsTestCase):

  @parameterized.parameters(
      ('train.num_stepz=3', 'num_stepz', 'num_steps'),
      ('modell.width=3', 'modell', 'model'),
      ('train.num_steps=many', 'train.num_steps', 'many'),
      ('train.num_steps=-1', '-1', 'num_steps'),
      ('train.log_every=0', 'log_every', '0'),
      ('stage=painter', 'painter', 'denoiser'),
      ('mesh.data=3', 'mesh.data=3', 'device'),
      ('data.name=films', 'films', 'moving_digits'),
      ('data.difficulty=evil', 'evil', 'quick'),
      ('data.height=20', '20', 'latents'),
      ('data.num_frames=6', '6', 'frames'),
      ('data.num_frames=0', '0', 'data'),
      ('data.batch_size=0', '0', 'data'),
      ('latents.height=9', '9', 'latents'),
      ('model.num_classes=3', '40', 'num_classes'),
      ('model.num_heads=3', '3', 'model'),
      ('model.depth=3', '3', 'model'),
      ('model.spacetime_window=(5,3,3)', '(5, 3, 3)', 'model'),
      ('model.activation=tanh', 'tanh', 'gelu'),
      ('model.dtype=float8', 'float8', 'bfloat16'),
      ('diffusion.frame_condition_probability=0.5', 'frame_condition',
       'probability'),
      ('diffusion.schedule=square', 'square', 'linear'),
      ('diffusion.prediction=w', "'w'", 'diffusion'),
      ('optimizer.name=sgd', 'sgd', 'adamw'),
      ('optimizer.decay_steps=1', 'decay_steps', 'warmup_steps'),
      ('sampler.sampler=euler', 'euler', 'ddim'),
      ('sampler.factorized=True', 'sampler.factorized', 'data.image_rows',
       'frame_condition_lengths'),
      ('text.name=elmo', 'elmo', 'minilm'),
      ('tokenizer.workdir=/no/such/run', '/no/such/run', 'walt train'))
  def test_a_wrong_value_is_named_and_leaves_nothing(self, override, *named):
    workdir = self.new_dir()
    result = tiny.walt(*tiny.flags('sr', workdir, 1), f'--config.{override}')
    self.assert_refused(result, *named)
    self.assertIsNone(tiny.contents(workdir))

  def test_a_random_tokenizer_is_not_left_behind(self):
    workdir = self.new_dir()
    result = tiny.walt(
        'train', '--config', f'{tiny.QUICKSTART}:smoke', '--workdir', workdir,
        '--config.latents.height=9')
    self.assert_refused(result, 'latents', '9')
    self.assertIsNone(tiny.contents(workdir))

  @parameterized.parameters(
      ('data.num_frames=6', '6', 'frames'),
      ('model.stem_patch=(4,4,3)', '(4, 4, 3)', 'model'),
      ('model.bottleneckk=kl', 'bottleneckk', 'model'),
      ('losses.reconstruction=l3', 'l3', 'l2'))
  def test_tokenizers_too(self, override, *named):
    workdir = self.new_dir()
    result = tiny.walt(
        *tiny.flags('tokenizer', workdir, 1), f'--config.{override}')
    self.assert_refused(result, *named)
    self.assertIsNone(tiny.contents(workdir))

  def test_a_batch_that_does_not_divide_over_the_mesh(self):
    workdir = self.new_dir()
    result = tiny.walt(
        *tiny.flags('sr', workdir, 1, data__batch_size=12), devices=8)
    self.assert_refused(result, '12', '8', 'multiple')
    self.assertIsNone(tiny.contents(workdir))

  def test_config_files(self):
    workdir = self.new_dir()
    for spec, named in ((f'{tiny.QUICKSTART}:nano', 'nano'),
                        ('no/such/file.py', 'no/such/file.py')):
      result = tiny.walt('train', '--config', spec, '--workdir', workdir)
      self.assert_refused(result, named)
    self.assertIsNone(tiny.contents(workdir))

  @parameterized.parameters(
      ('smoke', '', 'data.path', 'walt data prepare'),
      ('smoke', '/no/such/data', '/no/such/data', 'walt data prepare'),
      ('l', '/no/such/data', '/no/such/data', 'walt data prepare'))
  def test_missing_data(self, variant, path, *named):
    workdir = self.new_dir()
    result = tiny.walt(
        'train', '--config', f'{tiny.UCF101}:{variant}', '--workdir', workdir,
        f'--config.data.path={path}')
    self.assert_refused(result, *named)
    self.assertIsNone(tiny.contents(workdir))

  def test_missing_tokenizer(self):
    workdir = self.new_dir()
    result = tiny.walt(
        'train', '--config', f'{tiny.UCF101}:l', '--workdir', workdir,
        '--config.data.name=moving_digits')
    self.assert_refused(result, 'tokenizer.workdir', 'trained tokenizer')
    self.assertIsNone(tiny.contents(workdir))

  def test_resuming_with_another_config(self):
    workdir = tiny.copy(tiny.run('sr'), self.new_dir())
    before = tiny.contents(workdir)
    for changed, *named in (
        (dict(optimizer__peak_lr=0.5), 'optimizer.peak_lr', '0.5', '0.003'),
        (dict(seed=3), 'seed', '3'),
        (dict(data__difficulty='free'), 'data.difficulty', 'free', 'quick')):
      result = tiny.walt(*tiny.flags('sr', workdir, 4, **changed))
      self.assert_refused(result, *named)
    self.assertEqual(tiny.contents(workdir), before)

  def test_resuming_with_another_tokenizer(self):
    workdir = tiny.copy(tiny.run('sr'), self.new_dir())
    before = tiny.contents(workdir)
    result = tiny.walt(*tiny.flags(
        'sr', workdir, 4, tokenizer__workdir=self.other_tokenizer()))
    self.assert_refused(result, 'another tokenizer', workdir)
    self.assertEqual(tiny.contents(workdir), before)

  def other_tokenizer(self) -> pathlib.Path:
    workdir = tiny.copy(tiny.run('tokenizer'), self.new_dir())
    change_tokenizer(workdir / 'export')
    return workdir

  def test_work_directories_that_are_none(self):
    folder = self.new_dir()
    folder.mkdir()
    file = folder / 'file'
    file.write_text('')
    result = tiny.walt(*tiny.flags('base', file, 1))
    self.assert_refused(result, file)
    (folder / 'config.json').write_text('{"seed": ')
    before = tiny.contents(folder)
    result = tiny.walt(*tiny.flags('base', folder, 1))
    self.assert_refused(result, folder / 'config.json')
    self.assertEqual(tiny.contents(folder), before)


class DataErrorsTest(ErrorsTestCase):

  def prepare(self, folder) -> tuple[tiny.Result, pathlib.Path]:
    output = self.new_dir()
    return tiny.walt('data', 'prepare', '--input', folder, '--output',
                     output), output

  def test_input_folders_that_cannot_be_read(self):
    folder = self.new_dir()
    folder.mkdir()
    file = folder / 'list.txt'
    file.write_text('no video')
    for path in (folder / 'missing', file):
      with self.subTest(path.name):
        result, output = self.prepare(path)
        self.assert_refused(result, path)
        self.assertIsNone(tiny.contents(output))

  def test_a_folder_without_permission(self):
    if os.geteuid() == 0:
      self.skipTest('The superuser may read every folder.')
    folder = self.new_dir()
    folder.mkdir(mode=0)
    self.addCleanup(folder.chmod, 0o700)
    result, output = self.prepare(folder)
    self.assert_refused(result, folder)
    self.assertIsNone(tiny.contents(output))

  def test_clips_that_are_too_short_for_a_run(self):
    data, workdir = self.new_dir(), self.new_dir()
    result = tiny.walt(
        'data', 'render', 'moving_digits', '--split', 'train', '--num', '8',
        '--heldout', '4', '--size', '16', '--num_frames', '3', '--clips', '0',
        '--output', data)
    self.assertEqual(result.code, 0, result.err)
    result = tiny.walt(
        'train', '--config', f'{tiny.UCF101}:smoke', '--workdir', workdir,
        f'--config.data.path={data}', '--config.data.batch_size=4')
    self.assert_refused(result, '17', '3')
    self.assertIsNone(tiny.contents(workdir))


class SampleErrorsTest(ErrorsTestCase):

  def refused(self, workdirs, *argv, named=()) -> None:
    out = self.new_dir()
    workdirs = ','.join(map(str, workdirs))
    result = tiny.walt('sample', '--workdir', workdirs, '--out', out, *argv)
    self.assert_refused(result, *named)
    self.assertIsNone(tiny.contents(out))

  def test_labels_and_prompts(self):
    base = [tiny.run('base')]
    self.refused(base, '--label', 'eleven left',
                 named=['eleven left', 'zero left'])
    self.refused(base, '--prompt', 'a', '--requests', 'r.jsonl',
                 named=['--requests', '--prompt'])
    self.refused(base, '--steps', '5,5', named=['--steps', '2', '1'])
    self.refused(base, '--sampler', 'euler', named=['euler', 'ddim'])
    self.refused(base, '--steps', '2000', named=['2000'])
    self.refused(base, '--factorized', named=['--factorized', 'image_rows'])

  def test_work_directories(self):
    base, sr = tiny.run('base'), tiny.run('sr')
    empty = self.new_dir()
    empty.mkdir()
    unsaved = tiny.copy(base, self.new_dir())
    for step in (unsaved / 'checkpoints').iterdir():
      step.rename(unsaved / f'not_{step.name}')
    self.refused([empty], named=[empty, 'walt train'])
    self.refused([empty / 'none'], named=[empty / 'none'])
    self.refused([unsaved], named=[unsaved, 'checkpoint'])
    self.refused([tiny.run('tokenizer')], named=['tokenizer'])
    self.refused([sr], named=[sr, 'super-resolution'])
    self.refused([sr, base], named=[sr, 'super-resolution'])
    self.refused([base, base], named=[base, 'base'])
    self.refused([base, sr, sr], named=[sr, 'latents'])

  def test_stages_of_two_tokenizers(self):
    sr = tiny.copy(tiny.run('sr'), self.new_dir())
    change_tokenizer(sr / 'tokenizer')
    # As it was trained with that one.
    config = json.loads((sr / 'config.json').read_text())
    config['derived']['tokenizer_sha256'] = files.file_sha256(
        sr / 'tokenizer' / exports.MODEL_FILE)
    (sr / 'config.json').write_text(json.dumps(config))
    self.refused([tiny.run('base'), sr], named=[sr, 'another tokenizer'])

  @parameterized.parameters(
      ('{"prompt": "a seven moves left"', ':2'), ('[1, 2]', ':2'),
      ('{"promt": "a seven"}', ':2'), ('{"label": 7}', ':2'),
      ('{"seed": "x"}', ':2'), ('{"prompt": []}', ':2'),
      ('{"label": "eleven up"}', 'eleven up'))
  def test_request_files(self, line, named):
    file = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'requests.jsonl'
    file.write_text(json.dumps({'label': 'seven left'}) + f'\n{line}\n')
    self.refused([tiny.run('base')], '--requests', file, named=[named])

  def test_missing_request_file(self):
    self.refused([tiny.run('base')], '--requests', '/no/such.jsonl',
                 named=['/no/such.jsonl'])


def change_tokenizer(export: pathlib.Path) -> None:
  """Rewrites an export with other statistics of the latents."""
  params, config = exports.load_export(export)
  statistics = params['statistics']
  other = statistics_lib.LatentStatistics(
      statistics['mean'] + np.float32(1), statistics['std'])
  exports.save_export(export, params | {'statistics': dict(
      mean=other.mean, std=other.std)}, config)


if __name__ == '__main__':
  absltest.main()
