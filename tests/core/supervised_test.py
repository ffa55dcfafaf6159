"""A child that is tied to its parent, whatever happens to the parent."""
import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest

from walt_jax.core import supervised


class SupervisedTest(absltest.TestCase):

  def run_child(self, parent, code='print("imported all")'):
    read, write = os.pipe()
    self.addCleanup(os.close, read)
    process = subprocess.run(
        [sys.executable, '-c', 'from walt_jax.core import supervised; '
         f'supervised.begin(); {code}'], pass_fds=[write],
        env=os.environ | {supervised.CHILD: f'{parent}:{write}:alone'},
        capture_output=True, text=True, check=False)
    os.close(write)
    return process, os.read(read, 100)

  def test_a_child_beats(self):
    process, heard = self.run_child(os.getpid(), 'import time; time.sleep(.1)')
    self.assertEqual((process.returncode, heard), (0, supervised.BEAT))

  def test_a_child_whose_parent_died_before_it_was_tied_ends(self):
    process, heard = self.run_child(1)
    self.assertEqual((process.returncode, process.stdout, heard), (76, '', b''))

  def test_the_command_is_tied_before_it_imports_anything_heavy(self):
    code = ('import sys\n'
            'from walt_jax.core import supervised\n'
            'def begin():\n'
            '  print([m for m in ("argparse", "numpy", "jax", "asyncio",'
            ' "walt_jax.commands") if m in sys.modules]); sys.exit(0)\n'
            'supervised.begin = begin\n'
            'import walt_jax.__main__; walt_jax.__main__.main()')
    process = subprocess.run([sys.executable, '-c', code], text=True,
                             capture_output=True, check=True)
    self.assertEqual(process.stdout, '[]\n')

  def test_without_a_parent_nothing_is_done(self):
    with mock.patch.dict(os.environ):
      os.environ.pop(supervised.CHILD, None)
      supervised.begin()
      supervised.hold()
      self.assertFalse(supervised.fault('text'))

  def test_other_systems_are_not_asked_what_linux_is(self):
    with mock.patch('sys.platform', 'darwin'), mock.patch(
        'ctypes.CDLL', side_effect=OSError), mock.patch.dict(
            os.environ, {supervised.CHILD: f'{os.getppid()}:0:alone'}), (
                mock.patch.object(supervised.threading, 'Thread')), (
                    mock.patch.object(os, 'set_inheritable')):
      supervised.begin()


if __name__ == '__main__':
  absltest.main()
