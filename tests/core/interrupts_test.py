"""Signals end a process within moments, whatever it does, and leave nothing."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.core import interrupts

_PROGRAM = '''
import contextlib, hashlib, os, signal, subprocess, sys, threading, time
from walt_jax.commands import cli
from walt_jax.core import files, interrupts, scratch
def work():
{body}
  return 0
sys.exit(interrupts.own_process(lambda watch: cli.answered(work, watch)))
'''
_BEGUN = '  print("begun", flush=True)\n'
# In C, where Python's handlers do not run; with the interpreter's lock free.
_IN_C = _BEGUN + (
    '  hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)  # Minutes.\n')
_IN_PYTHON = _BEGUN + '  while True: pass\n'
_SWALLOWED = '''
  class Lost:
    def __del__(self):
      print("begun", flush=True)
      time.sleep(60)
  Lost()
  time.sleep(60)
'''
_MADE_SOMETHING_ELSE = _BEGUN + '''
  try:
    time.sleep(60)
  except KeyboardInterrupt:
    raise RuntimeError('a callback failed')
'''


class ProcessTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def start(self, body):
    # A handler of Python's is not inherited; ignored signals would be.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    self.addCleanup(signal.signal, signal.SIGINT, before)
    process = subprocess.Popen(
        [sys.executable, '-c', _PROGRAM.format(body=body)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=self.folder, start_new_session=True,
        env=os.environ | {'TMPDIR': str(self.folder),
                          'PYTHONPATH': os.pathsep.join(
                              [os.getcwd(), *sys.path])})
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    self.assertEqual(process.stdout.readline(), 'begun\n')
    return process

  def ended(self, process, number=signal.SIGINT, times=1):
    """Sends signals; returns code, standard error and seconds."""
    began = time.monotonic()
    for _ in range(times):
      os.killpg(process.pid, number)
      time.sleep(0.05 * (times > 1))
    _, err = process.communicate(timeout=30)
    return process.returncode, err, time.monotonic() - began

  @parameterized.named_parameters(
      ('python', _IN_PYTHON, 2), ('c', _IN_C, 3),
      ('destructor', _SWALLOWED, 3), ('callback', _MADE_SOMETHING_ELSE, 2))
  def test_ctrl_c_is_one_line_and_130(self, body, limit):
    code, err, seconds = self.ended(self.start(body))
    self.assertEqual((code, err), (130, 'walt: interrupted\n'))
    self.assertLess(seconds, limit)

  @parameterized.named_parameters(('python', _IN_PYTHON), ('c', _IN_C))
  def test_sigterm_is_one_line_and_75(self, body):
    code, err, _ = self.ended(self.start(body), signal.SIGTERM)
    self.assertEqual((code, err), (75, 'walt: stopped by SIGTERM\n'))

  @parameterized.parameters(_IN_PYTHON, _IN_C)
  def test_nothing_is_left(self, body):
    """Files and folders half made, and processes."""
    process = self.start('''
  subprocess.Popen(['sleep', '77'], start_new_session=True)
  stack = contextlib.ExitStack()
  stack.enter_context(scratch.folder('x'))
  stack.enter_context(files.replaced_folder('folder'))
  stack.enter_context(files.replaced_file('file')).write_text('half')
  with stack:
''' + body.replace('\n  ', '\n    ').replace('  print', '    print', 1))
    with open(f'/proc/{process.pid}/task/{process.pid}/children') as file:
      child = int(file.read())
    self.assertLen(list(self.folder.iterdir()), 3)
    self.ended(process)
    self.assertEmpty(list(self.folder.iterdir()))
    with self.assertRaises(ProcessLookupError):
      for _ in range(100):
        os.kill(child, 0)
        time.sleep(0.02)

  _SAVES = '''
  watch = interrupts.current()
  watch.keep('saving')
  print("begun", flush=True)
  for _ in range(100):
    if watch.noted is not None:
      time.sleep(1.2)
      raise interrupts.InOrder(watch.noted, 'after saving')
    time.sleep(0.05)
'''

  @parameterized.parameters((signal.SIGINT, 130, 'interrupted'),
                            (signal.SIGTERM, 75, 'stopped by SIGTERM'),
                            (signal.SIGHUP, 75, 'stopped by SIGHUP'))
  def test_what_would_be_lost_is_saved(self, number, code, words):
    process = self.start(self._SAVES)
    found, err, seconds = self.ended(process, number)
    self.assertEqual((found, err), (code, f'walt: {words} after saving\n'))
    self.assertGreater(seconds, 1)

  def test_the_second_ends_at_once(self):
    body = self._SAVES.replace('sleep(1.2)', 'sleep(60)')
    code, err, seconds = self.ended(self.start(body), times=2)
    self.assertEqual((code, err), (130, 'walt: interrupted\n'))
    self.assertLess(seconds, 3)

  def test_what_nohup_ignores_stays_ignored(self):
    process = self.start(
        '  signal.signal(signal.SIGHUP, signal.SIG_IGN)\n'
        '  with interrupts.watched(may_exit=False):\n'
        '    print("begun", flush=True)\n    time.sleep(1)\n')
    self.assertEqual(self.ended(process, signal.SIGHUP)[:2], (0, ''))


class LibraryTest(absltest.TestCase):

  def test_handlers_are_put_back(self):
    before = [signal.getsignal(number) for number in (
        signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with interrupts.watching() as watch:
      self.assertIs(interrupts.current(), watch)
      with self.assertRaises(interrupts.Stopped) as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
      self.assertEqual(caught.exception.code, 75)
    self.assertEqual(before, [signal.getsignal(number) for number in (
        signal.SIGINT, signal.SIGTERM, signal.SIGHUP)])
    self.assertIsNone(interrupts.current())


if __name__ == '__main__':
  absltest.main()
