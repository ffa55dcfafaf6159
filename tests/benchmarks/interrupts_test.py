"""The harness of Ctrl-C: what it finds wrong, and that a command passes."""
import pathlib
import random
import signal
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

from benchmarks.faults import interrupts

_SAID = 'walt: interrupted\n'


class InterruptsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.out = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (self.out / 'tmp').mkdir()

  @parameterized.parameters(
      (130, 1.0, _SAID, [], ''),
      (130, 1.0, 'sampling:  50%|##   | 1/2\n' + _SAID, [], ''),
      (0, 1.0, '', [], ''),
      (1, 1.0, _SAID, [], 'exit code 1'),
      (-2, 1.0, '', [], 'exit code -2'),
      (130, 1.0, 'Traceback\n' + _SAID, [], '2 lines'),
      (130, 1.0, '', [], '0 lines'),
      (130, 11.0, _SAID, [], '11.0 s'),
      (130, 1.0, _SAID, ['python worker'], 'processes left'))
  def test_what_is_wrong(self, code, seconds, said, left, wrong):
    found = '; '.join(
        interrupts._wrong(code, seconds, said, left, self.out))
    self.assertStartsWith(found, wrong)
    self.assertEqual(bool(found), bool(wrong), found)

  @parameterized.parameters('tmp/walt-x', '.file.partial-123')
  def test_what_is_left(self, name):
    (self.out / name).touch()
    self.assertIn(name, ''.join(
        interrupts._wrong(130, 1.0, _SAID, [], self.out)))

  def test_a_command_at_two_moments(self):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    self.addCleanup(signal.signal, signal.SIGINT, before)
    whole, *outcomes = interrupts.try_command(
        'config', self.out, self.out / 'out', 2, random.Random(0))
    self.assertEqual((whole.code, whole.moment), (0, None))
    self.assertEqual([one.wrong for one in outcomes], ['', ''])


if __name__ == '__main__':
  absltest.main()
