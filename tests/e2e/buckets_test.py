"""Whole commands on an emulated bucket: all that they leave lies there."""
import json
import os
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np

from tests import buckets
from tests.data import video_files
from tests.e2e import tiny
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.media import samples
from walt_jax.training import workdir as workdir_lib

_RENDER = ('data', 'render', 'moving_digits', '--size', 16, '--num_frames', 5,
           '--num', 4, '--split', 'test')


class BucketsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = buckets.folder()
    # A path taken for a local one would make a folder here.
    self.here = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    before = os.getcwd()
    os.chdir(self.here)
    self.addCleanup(os.chdir, before)

  def walt(self, *argv, code: int = 0) -> tiny.Result:
    """Runs a command; nothing of it may be left in the present folder."""
    result = tiny.walt(*argv)
    self.assertEqual(result.code, code, result.err)
    self.assertEqual(list(self.here.iterdir()), [])
    if code:
      self.assertEqual(result.err.count('\n'), 1, result.err)
    return result

  def test_configs_and_plans(self):
    config = f'{self.root}/c.py'
    files.write_text(config, pathlib.Path(tiny.QUICKSTART).read_text())
    result = self.walt('config', f'{config}:smoke')
    self.assertEqual(
        result.out, tiny.walt('config', f'{tiny.QUICKSTART}:smoke').out)
    self.walt('config', f'{config}:none', code=2)
    self.walt('config', f'{self.root}/none.py', code=2)
    self.walt('plan', '--config', f'{config}:smoke', '--json',
              f'{self.root}/plan.json', '--html', f'{self.root}/plan.html')
    self.assertEqual(
        buckets.names(self.root), ['c.py', 'plan.html', 'plan.json'])
    self.assertIn('parameters', files.read_json(f'{self.root}/plan.json'))

  def test_rendered_data_are_inspected_scored_and_reported(self):
    data = f'{self.root}/digits'
    with tempfile.TemporaryDirectory() as local:
      tiny.walt(*_RENDER, '--output', local)
      wanted = manifest_lib.read_manifest(local)['splits']
      clip = samples.read_samples(local).clips()
    self.walt(*_RENDER, '--output', data)
    self.assertEqual(manifest_lib.read_manifest(data)['splits'], wanted)
    self.assertNotIn('.unfinished/task.json', buckets.names(data))
    np.testing.assert_array_equal(
        samples.read_samples(paths.path(data)).clips(), clip)
    self.assertLen(dataset_lib.PreparedDataset(data, 'heldout'), 4)
    before = buckets.names(data)
    self.walt(*_RENDER, '--output', data)  # Does nothing new.
    self.assertEqual(buckets.names(data), before)

    self.walt('data', 'inspect', data, '--out', f'{self.root}/sheet.png')
    self.walt('report', data)
    self.walt('report', data, '--out', f'{self.root}/page.html')
    for name in ('digits/report.html', 'page.html', 'sheet.png'):
      self.assertIn(name, buckets.names(self.root))

    pairs = ('evaluate', 'reconstruction', '--generated', data, '--json')
    first, second = f'{self.root}/1.json', f'{self.root}/2.json'
    self.walt(*pairs, first, '--real', data)
    self.walt(*pairs, second, '--real', f'{data}:heldout:16x16')
    one, other = files.read_json(first), files.read_json(second)
    self.assertNotIn(tempfile.gettempdir(), json.dumps(one))  # A copy's name.
    self.assertEqual(one['psnr'], other['psnr'])
    self.walt('evaluate', 'compare', first, second,
              '--json', f'{self.root}/3.json')
    self.assertIn('3.json', buckets.names(self.root))

  def test_films_are_read_from_this_machine_alone(self):
    refused = self.walt('data', 'prepare', '--input', self.root, '--output',
                        'x', code=2)
    self.assertIn('gcsfuse', refused.err)
    self.walt('data', 'prepare', '--input', self.root, '--output', 'x',
              '--latents', '--workdir', 'y', code=2)
    with tempfile.TemporaryDirectory() as films:
      for number in range(2):
        folder = pathlib.Path(films) / 'a'
        folder.mkdir(exist_ok=True)
        video_files.write_video(folder / f'{number}.mp4', num_frames=20)
      argv = ('data', 'prepare', '--input', films, '--size', 16, '--heldout',
              0, '--workers', 1, '--output')
      self.walt(*argv, f'{self.root}/out')
      self.walt(*argv, f'{self.root}/out')
    self.assertLen(dataset_lib.PreparedDataset(f'{self.root}/out'), 2)

  def test_training_resumes_and_its_weights_serve(self):
    tokenizer = f'{self.root}/tokenizer'
    for file in sorted(pathlib.Path(tiny.run('tokenizer'), 'export').iterdir()):
      paths.upload(file, paths.path(f'{tokenizer}/{file.name}'))
    run, unbroken = f'{self.root}/run', tiny.run('base')
    for steps in (2, 3):
      self.walt(*tiny.flags('base', run, steps, tokenizer__workdir=tokenizer))
    self.assertEqual(workdir_lib.WorkDir(run).steps(), [2, 3])
    self.assertEqual(tiny.metrics_text(run), tiny.metrics_text(unbroken))
    refused = self.walt(*tiny.flags(
        'base', run, 3, seed=7, tokenizer__workdir=tokenizer), code=2)
    self.assertIn('seed', refused.err)

    drawn = ('--label', 'seven left', '--steps', 2, '--out')
    self.walt('sample', '--workdir', run, *drawn, f'{self.root}/a')
    self.walt('export', '--workdir', run, '--out', f'{self.root}/export')
    self.walt('sample', '--workdir', f'{self.root}/export', *drawn,
              f'{self.root}/b')
    one, other = (samples.read_samples(f'{self.root}/{name}').clips()
                  for name in 'ab')
    np.testing.assert_array_equal(one, other)
    with tempfile.TemporaryDirectory() as local:
      tiny.walt('export', '--workdir', unbroken, '--out', f'{local}/export')
      self.assertEqual(
          files.file_sha256(f'{self.root}/export/model.safetensors'),
          files.file_sha256(f'{local}/export/model.safetensors'))
    self.walt('report', self.root)
    self.assertIn('report.html', buckets.names(self.root))
    for name in ('config.json', 'timing.json', 'tokenizer/config.json'):
      self.assertIn(name, buckets.names(run))


if __name__ == '__main__':
  absltest.main()
