"""`samples.json` says all that was written, and nothing unfinished."""
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.core import errors
from walt_jax.media import samples


class SamplesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'out'
    self.clips = np.random.default_rng(0).integers(
        0, 256, (2, 3, 16, 16, 3), np.uint8)

  def test_round_trip(self):
    entries = [
        samples.Entry('00000', caption='a “seven”', label='seven left', seed=7,
                      index=0, prompts=((0, 'a'), (12, 'b'))),
        samples.Entry('00001')]
    stages = [samples.StageRecord(
        'base', 'runs/base', 100, 'ab' * 32, 'ema/0.99', 'ddim', 25,
        {'label': 3.0}, shape=(3, 16, 16, 3), seconds=1.5)]
    written = samples.write_samples(
        self.folder, self.clips, entries, 8, stages=stages,
        settings=dict(seed=7, requests=None), seconds=2.25)
    read = samples.read_samples(self.folder)
    self.assertEqual(read, written)
    np.testing.assert_array_equal(read.clips(), self.clips)
    self.assertEqual(read.entries[0].shape, (3, 16, 16, 3))
    self.assertTrue((self.folder / '00001.mp4').is_file())

  def test_stages_originals_and_single_frames(self):
    writer = samples.SampleWriter(self.folder, fps=8, kind='reconstruction')
    writer.add(samples.Entry('0'), self.clips[0, :1],
               stage_clips={'base': self.clips[0, :1, ::2, ::2]},
               original=self.clips[1, :1])
    self.assertFalse(samples.is_sample_folder(self.folder))
    read = writer.finish()
    self.assertTrue(samples.is_sample_folder(self.folder))
    entry = read.entries[0]
    self.assertEqual(read.clip(entry.stages['base']).shape, (1, 8, 8, 3))
    np.testing.assert_array_equal(read.clip(entry.original), self.clips[1, :1])
    self.assertTrue((self.folder / '0.png').is_file())

  def test_a_new_run_makes_an_old_folder_unfinished(self):
    samples.write_samples(self.folder, self.clips[:1], [samples.Entry('0')], 8)
    samples.SampleWriter(self.folder, fps=8)
    with self.assertRaisesRegex(errors.UserError, 'not a finished folder'):
      samples.read_samples(self.folder)

  def test_a_new_run_removes_clips_of_the_old_one_and_nothing_else(self):
    samples.write_samples(self.folder, self.clips[:2], [
        samples.Entry('0'), samples.Entry('1', original='1_true')], 8)
    (self.folder / 'notes.txt').write_text('mine')
    (self.folder / '2.mp4').write_text('mine')
    samples.write_samples(self.folder, self.clips[:1], [samples.Entry('0')], 8)
    self.assertEqual(
        {path.name for path in self.folder.iterdir()},
        {'0.npy', '0.mp4', 'samples.json', 'notes.txt', '2.mp4'})

  @parameterized.parameters(
      ('run', 8.0), ('request', 8.0), ('default', None), (None, 8.0))
  def test_a_rate_that_nothing_said_is_none(self, origin, rate):
    writer = samples.SampleWriter(self.folder, fps=8)
    writer.finish(settings=dict(fps_origin=origin) if origin else {})
    self.assertEqual(samples.read_samples(self.folder).rate, rate)

  def test_refusals(self):
    writer = samples.SampleWriter(self.folder, fps=8, mp4=False)
    writer.add(samples.Entry('0'), self.clips[0])
    with self.assertRaisesRegex(ValueError, 'stem'):
      writer.add(samples.Entry('0'), self.clips[0])
    with self.assertRaisesRegex(ValueError, 'stem'):
      writer.add(samples.Entry('../0'), self.clips[0])
    with self.assertRaisesRegex(ValueError, 'kind'):
      samples.SampleWriter(self.folder, fps=8, kind='other')
    writer.add(samples.Entry('1'), self.clips[0, :2])
    with self.assertRaisesRegex(errors.UserError, 'one shape'):
      writer.finish().clips()

  def test_foreign_json_is_refused_in_one_line(self):
    self.folder.mkdir()
    for content in ('{', '[]', '{"format": 99}',
                    json.dumps(dict(format=1, entries=[dict(stem='a')]))):
      (self.folder / 'samples.json').write_text(content)
      with self.assertRaisesRegex(errors.UserError, 'samples.json'):
        samples.read_samples(self.folder)


if __name__ == '__main__':
  absltest.main()
