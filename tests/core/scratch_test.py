"""Temporary folders: whose are removed, and whose never."""
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest

from walt_jax.core import scratch


class AbandonedTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.enterContext(mock.patch.object(tempfile, 'tempdir', str(self.root)))

  def test_folders_of_killed_processes_alone_are_removed(self):
    program = ('import os, sys, tempfile; tempfile.tempdir = sys.argv[1]; '
               'from walt_jax.core import scratch; '
               'print(scratch.make_folder("upload"), flush=True); os._exit(9)')
    left = pathlib.Path(subprocess.run(
        [sys.executable, '-c', program, str(self.root)], check=False, text=True,
        capture_output=True).stdout.strip())
    self.assertTrue(left.is_dir())
    ours = scratch.make_folder('demo')
    self.addCleanup(scratch.remove_folder, ours)
    users = [self.root / name for name in (
        'walt-runs', 'walt-upload-abcdefgh', '.walt-scratch-mine', 'other')]
    for folder in users:
      folder.mkdir()
      (folder / 'checkpoint').touch()
    for folder in (left, ours, *users):
      os.utime(folder, (0, 0))
    with scratch.folder('x'):
      self.assertFalse(left.exists())
    for folder in (ours, *users):
      self.assertTrue(folder.is_dir(), folder)


if __name__ == '__main__':
  absltest.main()
