"""`walt train --replay`: a failed step of any stage fails again."""
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

from tests.e2e import tiny
from walt_jax.core import run_files


class ReplayTest(parameterized.TestCase):

  @parameterized.parameters('tokenizer', 'base')
  def test_a_rate_far_too_high_stops_and_replays(self, stage):
    workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())) / 'w'
    argv = tiny.flags(stage, workdir, 8, optimizer__peak_lr=10,
                      optimizer__weight_decay=10, optimizer__clip_norm=0,
                      train__eval_every=0)
    result = tiny.walt(*argv, '--max_failures', 2)
    self.assertEqual(result.code, 2, result.err)
    self.assertRegex(result.err, r'^walt: error: training stopped: step \d+ is '
                     r'not finite \(.*loss .*--replay')
    self.assertLen(result.err.splitlines(), 1)
    (path,) = (workdir / run_files.REPLAY).iterdir()
    self.assertIn(str(path), result.err)

    again = tiny.walt('train', '--replay', path)
    self.assertEqual(again.code, 0, again.err)
    self.assertIn('fails again, all metrics equal', again.out)

    wrong = tiny.walt('train', '--replay', path, '--config', 'x.py')
    self.assertEqual(wrong.code, 2)
    self.assertIn('--config does not go with --replay', wrong.err)


if __name__ == '__main__':
  absltest.main()
