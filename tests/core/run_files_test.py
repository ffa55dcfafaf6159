"""metrics.jsonl of runs that were resumed, killed or damaged."""
import math
import pathlib
import tempfile

from absl.testing import absltest

from walt_jax.core import run_files


class MetricsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))

  def read(self, text: str) -> run_files.Metrics:
    (self.workdir / run_files.METRICS).write_text(text)
    return run_files.read_metrics(self.workdir)

  def test_lines_in_order_and_curves_by_step(self):
    metrics = self.read('{"step": 1, "a": 1.0}\n{"step": 2, "a": 0.1}\n'
                        '{"step": 2, "a": 3, "note": "x", "on": true}\n')
    self.assertEqual([line['step'] for line in metrics.lines], [1, 2, 2])
    self.assertEqual(metrics.curves(), {'a': {1: 1.0, 2: 3}})
    self.assertEqual(metrics.unreadable, 0)

  def test_what_is_no_line_is_counted(self):
    metrics = self.read('7\n{"a": 1}\n{"step": "x"}\n{"step": 1, "a": NaN}\n'
                        '[]\n{"step": 2, "a": ')
    self.assertLen(metrics.lines, 1)
    self.assertTrue(math.isnan(metrics.curves()['a'][1]))
    self.assertEqual(metrics.unreadable, 5)

  def test_no_file_has_no_lines(self):
    self.assertEqual(run_files.read_metrics(self.workdir / 'nothing'),
                     run_files.Metrics())


if __name__ == '__main__':
  absltest.main()
