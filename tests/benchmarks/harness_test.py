"""Benchmarks' children, their failures, and what a result records."""
import json
import pathlib
import subprocess
import tempfile
from unittest import mock

from absl.testing import absltest

from benchmarks import harness


class HarnessTest(absltest.TestCase):

  def child(self, returncode=0, stdout='', stderr=''):
    done = subprocess.CompletedProcess([], returncode, stdout, stderr)
    with mock.patch('subprocess.run', return_value=done) as run:
      row = harness.in_process('benchmarks.x', ['--one', 'a'], dict(A='b'))
    self.assertEqual(run.call_args.args[0][1:],
                     ['-m', 'benchmarks.x', '--one', 'a'])
    self.assertEqual(run.call_args.kwargs['env']['A'], 'b')
    return row

  def test_a_row_is_the_last_line(self):
    self.assertEqual(
        self.child(stdout='compiling ..\n{"seconds": 1.5}\n'),
        dict(seconds=1.5))

  def test_failures_are_rows_too(self):
    self.assertEqual(self.child(1, stderr='out of memory'),
                     dict(error='out of memory'))
    self.assertIn('no row', self.child(stdout='')['error'])
    self.assertIn('hello', self.child(stdout='hello')['error'])

  def test_a_row_names_its_device(self):
    with mock.patch('builtins.print') as printed:
      harness.print_row(dict(seconds=1.5))
    row = json.loads(printed.call_args.args[0])
    self.assertEqual(row['seconds'], 1.5)
    self.assertEqual(row['platform'], 'cpu')
    self.assertEqual(row['num_devices'], 8)

  def test_a_result_says_how_it_was_made(self):
    path = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'new' / 'x.json'
    with mock.patch('sys.argv', [
        str(harness.RESULTS.parent / 'x.py'), '--size', '8 9']):
      harness.write('x', dict(a=dict(seconds=1.5)), path=path)
    found = json.loads(path.read_text())
    self.assertEqual(found['rows'], dict(a=dict(seconds=1.5)))
    self.assertEqual(found['made']['command'],
                     "python -m benchmarks.x --size '8 9'")
    self.assertIn('jax', found['made']['versions'])
    self.assertRegex(found['made']['commit'], '^([0-9a-f]{40})?$')


if __name__ == '__main__':
  absltest.main()
