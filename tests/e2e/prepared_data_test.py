"""From files to training: captioned clips, several shapes, what is refused."""
import json
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np

from tests.data import video_files
from tests.e2e import tiny
from walt_jax.core import run_files

_BUCKETS = f'''
import runpy

def get_config():
  config = runpy.run_path({tiny.QUICKSTART!r})['get_config']('tokenizer')
  config.data.buckets = ((16, 16), (16, 32))
  return config
'''


class PreparedDataTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def _prepare(self, name, sizes):
    """Videos of 8 frames, of these sizes, with a caption each."""
    lines = []
    for number, size in enumerate(sizes):
      file = self.root / f'{name}_in' / f'{number}.avi'
      video_files.write_video(file, 8, size=size, value=10 * number)
      caption = f'light {number}' + ' and more' * number
      lines.append(json.dumps(dict(file=file.name, caption=caption)))
    (self.root / f'{name}_in' / 'captions.jsonl').write_text('\n'.join(lines))
    data = self.root / name
    done = tiny.walt('data', 'prepare', '--input', self.root / f'{name}_in',
                     '--output', data, '--num_frames', 5, '--size', 16,
                     '--workers', 1)
    self.assertEqual(done.code, 0, done.err)
    return data

  def test_captioned_clips_prepare_inspect_and_train(self):
    data = self._prepare('data', [(32, 24)] * 10)
    shown = tiny.walt('data', 'inspect', data)
    self.assertEqual(shown.code, 0, shown.err)
    self.assertRegex(shown.out, 'train: 9 clips')
    self.assertTrue((data / 'contact_sheet.png').is_file())
    run = self.root / 'run'
    with self.assertLogs('walt_jax', 'WARNING') as logs:
      tiny.train('base', run, 2, data__name='clips', data__path=data,
                 data__batch_size=8, train__eval_every=0)
    self.assertRegex(logs.output[0], 'captions read so far .* 8 tokens')
    saved = json.loads((run / 'config.json').read_text())
    self.assertIn('light 1 and more', saved['derived']['classes'])
    self.assertLen(tiny.losses(run), 2)

  def test_a_tokenizer_trains_on_two_shapes_and_resumes(self):
    data = self._prepare('data', [(24, 24), (48, 24)] * 6)
    config = self.root / 'buckets.py'
    config.write_text(_BUCKETS)

    def train(workdir, num_steps):
      flags = tiny.flags('tokenizer', workdir, num_steps, data__name='clips',
                         data__path=data)
      flags[flags.index('--config') + 1] = str(config)
      result = tiny.walt(*flags)
      self.assertEqual(result.code, 0, result.err)
      return result

    unbroken, resumed = self.root / 'unbroken', self.root / 'resumed'
    self.assertEqual(train(unbroken, 6).out.count('compiled in'), 2)
    train(resumed, 2)
    train(resumed, 6)
    tiny.assert_same_checkpoint(unbroken, resumed, 6)
    self.assertTrue(np.isfinite(tiny.losses(unbroken)).all())
    lines = run_files.read_metrics(unbroken).lines
    self.assertEqual([line['step'] for line in lines if 'train/loss' in line],
                     [1, 2, 3, 4, 5, 6])

  def test_missing_data_are_one_line_and_leave_nothing(self):
    workdir = self.root / 'run'
    for path in ('', self.root / 'nothing'):
      result = tiny.train('base', workdir, 1, code=2, data__name='clips',
                          data__path=path)
      self.assertRegex(result.err, '^walt: error: .*walt data prepare --input '
                       'VIDEOS --output .* --num_frames 5 --size 16')
      self.assertLen(result.err.strip().splitlines(), 1)
      self.assertFalse(workdir.exists())


if __name__ == '__main__':
  absltest.main()
