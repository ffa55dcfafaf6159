"""Starting again: crash loops, back-off, progress, signals, schedulers."""
import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.commands import cli
from walt_jax.core import errors
from walt_jax.core import interrupts
from walt_jax.core import run_history
from walt_jax.parallel import children
from walt_jax.parallel import restarts


class RestartsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()), 'run')
    self.waits = []
    self.enterContext(mock.patch.object(
        restarts.time, 'sleep', self.waits.append))
    self.err = io.StringIO()

  def run_policy(self, codes, limit=2, **policy):
    """Ends each start with the next code; (code, step) brings a checkpoint."""
    left = list(codes)

    def start():
      code = left.pop(0)
      if isinstance(code, tuple):
        code, step = code
        (self.workdir / 'checkpoints' / str(step)).mkdir(parents=True)
      if isinstance(code, Exception):
        raise code
      return code

    with contextlib.redirect_stderr(self.err):
      code = restarts.run(
          restarts.Policy(self.workdir, limit, **policy), start)
    self.assertEmpty(left)
    return code

  @parameterized.parameters(0, 2, 75, 130)
  def test_ends_in_order_are_final(self, code):
    self.assertEqual(self.run_policy([code]), code)
    self.assertEmpty(self.waits)

  def test_it_stops_where_no_checkpoint_advances(self):
    with self.assertRaisesRegex(
        errors.UserError, '3 starts in a row brought no checkpoint at all, the '
        'last with exit code 1'):
      self.run_policy([-9, 76, 1])
    self.assertEqual(self.waits, [5.0, 10.0])
    lines = self.err.getvalue().splitlines()
    self.assertIn('exit code -9; 1 of at most 2 restarts', lines[0])

  def test_progress_counts_anew(self):
    code = self.run_policy([1, 1, (1, 5), 1, (76, 8), 1, 1, 0])
    self.assertEqual(code, 0)
    self.assertEqual(self.waits, [5.0, 10.0, 5.0, 5.0, 5.0, 5.0, 10.0])

  def test_waits_have_a_bound(self):
    self.run_policy([1] * 9 + [0], limit=9)
    self.assertEqual(self.waits[-3:], [300.0] * 3)

  def test_a_scheduler_that_starts_it_again_is_stopped_too(self):
    for _ in range(3):  # Whole machines died: nothing noted their ends.
      run_history.note_start(self.workdir, None)
    with self.assertRaisesRegex(errors.UserError, '3 starts in a row'):
      self.run_policy([])
    # The user has fixed it and starts again, with the same command.
    self.assertEqual(self.run_policy([1, 0]), 0)

  def test_earlier_steps_and_ends_in_order_do_not_count(self):
    (self.workdir / 'checkpoints' / '7').mkdir(parents=True)
    for step, code in ((3, None), (7, 1), (7, 75), (7, None)):
      run_history.note_start(self.workdir, step)
      if code is not None:
        run_history.note_end(self.workdir, code)
    self.assertEqual(self.run_policy([0], limit=1), 0)
    self.assertEqual(self.waits, [5.0])

  def test_hosts_that_come_no_more_count_as_lost(self):
    gone = errors.UserError('process 1 had not come')
    with self.assertRaisesRegex(errors.UserError, 'exit code 76'):
      self.run_policy([1, gone], limit=1)
    with self.assertRaisesRegex(errors.UserError, 'had not come'):
      self.run_policy([gone], limit=1, writes=False)

  def test_one_process_notes_what_the_child_could_not(self):
    self.run_policy([1, 0])
    self.run_policy([1, 0], writes=False)
    self.assertEqual(self.waits, [5.0, 5.0 + 5.0, 10.0 + 5.0])
    (attempt,) = run_history.read(self.workdir).attempts
    self.assertEqual((attempt.step, attempt.code), (-1, 1))

  def test_sigterm_between_two_starts_ends_it(self):
    self.enterContext(mock.patch.object(
        restarts.time, 'sleep',
        lambda seconds: os.kill(os.getpid(), signal.SIGTERM)))
    with interrupts.watching(), self.assertRaises(
        interrupts.Stopped) as caught:
      self.run_policy([1])
    self.assertEqual(caught.exception.code, 75)


class ChildTest(absltest.TestCase):

  def test_a_command_that_dies_at_once_is_bounded(self):
    """Through the command line, with a child that is really started."""
    workdir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    count = workdir / 'count'
    program = (f'open({str(count)!r}, "a").write("x"); '
               'import os; os.kill(os.getpid(), 9)')
    popen = subprocess.Popen
    self.enterContext(mock.patch.object(
        children.subprocess, 'Popen', lambda command, **rest: popen(
            [sys.executable, '-c', program], **rest)))
    self.enterContext(mock.patch.object(restarts, 'FIRST_SECONDS', 0.01))
    err = io.StringIO()
    began = time.monotonic()
    with contextlib.redirect_stderr(err):
      code = cli.main(['train', '--config', 'configs/quickstart.py:smoke',
                       '--workdir', str(workdir), '--restarts', '3'])
    self.assertEqual(code, 2)
    self.assertEqual(count.read_text(), 'xxxx')
    self.assertLess(time.monotonic() - began, 30.0)
    lines = err.getvalue().splitlines()
    self.assertLen(lines, 4)
    self.assertRegex(lines[-1], '^walt: error: 4 starts in a row brought no '
                     'checkpoint at all, the last with exit code -9')

  def test_a_child_that_hangs_is_ended(self):
    program = ('from walt_jax.core import supervised; supervised.begin(); '
               'import os; os.kill(os.getpid(), 19)')
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
      code = restarts.alone([sys.executable, '-c', program], seconds=2.0)
    self.assertEqual(code, 76)
    self.assertRegex(err.getvalue(), '^walt: .* silent for 2 s.*\n$')

  def test_signals_are_passed_on(self):
    program = ('import signal, sys, time\n'
               'signal.signal(15, lambda *_: sys.exit(75))\n'
               'print("ready", flush=True)\n'
               'time.sleep(60)')
    # The child's output is this process's: a file tells when it is ready.
    read, write = os.pipe()
    self.addCleanup(os.close, read)

    def kill():
      os.read(read, 5)
      os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=kill, daemon=True).start()
    program = program.replace(
        'print("ready", flush=True)', f'import os; os.write({write}, b"ready")')
    popen = subprocess.Popen
    self.enterContext(mock.patch.object(
        children.subprocess, 'Popen', lambda command, **rest: popen(
            command, **rest | dict(pass_fds=[write, *rest['pass_fds']]))))
    self.assertEqual(restarts.alone([sys.executable, '-c', program]), 75)
    os.close(write)


if __name__ == '__main__':
  absltest.main()
