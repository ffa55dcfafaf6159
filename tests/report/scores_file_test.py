"""`scores.json` reads back as it was written."""
import json
import pathlib
import tempfile

from absl.testing import absltest

from walt_jax.core import errors
from walt_jax.report import scores_file


class ScoresTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def test_round_trip(self):
    baseline = scores_file.Baseline('mean clip', 1633.5, (1600.0, 1660.0), 32)
    written = [scores_file.Score('FVD', 412.25, 'Base', better='lower',
                            interval=(400.0, 430.0), baselines=(baseline,)),
               scores_file.Score('Digits', 0.1 + 0.2, unit='fraction')]
    timings = [scores_file.Timing('train', 1.5, 2**31)]
    scores_file.write_scores(self.folder, written, timings, dict(seed=0))
    read = scores_file.read_scores(self.folder)
    self.assertEqual(read.scores, tuple(written))
    self.assertEqual(read.timings, tuple(timings))
    self.assertEqual(read.settings, dict(seed=0))

  def test_files_of_format_1_name_baselines_yardsticks(self):
    score = scores_file.Score(
        'PSNR', 30.0, baselines=(scores_file.Baseline('mean clip', 13.5),))
    scores_file.write_scores(self.folder, [score])
    content = json.loads((self.folder / 'scores.json').read_text())
    found, = content['scores']
    self.assertEqual(found['yardsticks'][0]['name'], 'mean clip')
    self.assertNotIn('baselines', found)

  def test_refusals(self):
    with self.assertRaisesRegex(ValueError, 'better'):
      scores_file.write_scores(
          self.folder, [scores_file.Score('a', 1, better='up')])
    with self.assertRaisesRegex(errors.UserError, 'scores.json'):
      scores_file.read_scores(self.folder)
    for content in ('{', '[]', '{"format": 2}', '{"fvd": 3}'):
      (self.folder / 'scores.json').write_text(content)
      with self.assertRaisesRegex(errors.UserError, 'scores.json'):
        scores_file.read_scores(self.folder)


if __name__ == '__main__':
  absltest.main()
