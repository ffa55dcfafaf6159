"""`walt train` keeps what is there: old runs, other runs, lost checkpoints."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np

from tests import xla_flags
from tests.e2e import tiny
from walt_jax.core import lease
from walt_jax.core import run_files
from walt_jax.training import workdir as workdir_lib

# A stage 'sr' after two steps, as the version before 1 left it.
_OLD = tiny.ROOT / 'tests/golden/files/run_of_version_0.tar.xz'
# What that version had for its next steps.
_LOSSES = (0.8046484589576721, 0.8154150247573853, 0.8450710773468018,
           0.7693940997123718)


class KeepTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.workdir = self.folder / 'run'

  def refused(self, *, num_steps=4, **changed) -> str:
    """The one line of a training that is refused, which changes nothing."""
    before = tiny.contents(self.workdir)
    result = tiny.train('sr', self.workdir, num_steps, code=2, **changed)
    (line,) = [line for line in result.err.splitlines() if 'error' in line]
    self.assertEqual(tiny.contents(self.workdir), before)
    return line

  def test_a_run_of_an_earlier_version_is_resumed(self):
    with tarfile.open(_OLD) as archive:
      archive.extractall(self.folder, filter='data')
    found = workdir_lib.WorkDir(self.workdir)
    self.assertEqual(found.version(), 0)
    # It has its own copy of the tokenizer.
    result = tiny.train('sr', self.workdir, 4, tokenizer__workdir='')
    self.assertIn('resumed at step 2', result.out)
    np.testing.assert_allclose(tiny.losses(self.workdir), _LOSSES, rtol=1e-4)
    self.assertGreater(found.version(), 0)
    self.assertEqual(tiny.train(
        'sr', self.workdir, 4, tokenizer__workdir='').code, 0)

  def test_lost_checkpoints_are_no_new_run(self):
    tiny.copy(tiny.run('sr'), self.workdir)
    lost = self.folder / 'lost'
    (self.workdir / 'checkpoints').rename(lost)
    self.assertRegex(self.refused(), 'no checkpoint any more.*--restart')
    lost.rename(self.workdir / 'checkpoints')
    self.assertIn('resumed at step 3',
                  tiny.train('sr', self.workdir, 4).out)

    shutil.rmtree(self.workdir / 'checkpoints')
    lines = (self.workdir / 'metrics.jsonl').read_text()
    result = tiny.walt(*tiny.flags('sr', self.workdir, 1), '--restart')
    self.assertEqual(result.code, 0, result.err)
    self.assertLen(tiny.losses(self.workdir), 1)
    aside = self.workdir / 'before_restart_1'
    self.assertEqual((aside / 'metrics.jsonl').read_text(), lines)
    self.assertEqual(run_files.checkpoint_steps(self.workdir), [1])
    self.assertCountEqual(
        os.listdir(aside), ['config.json', 'metrics.jsonl', 'timing.json',
                            'history.jsonl'])

  def test_a_run_that_came_to_nothing_begins_again(self):
    tiny.copy(tiny.run('sr'), self.workdir)
    shutil.rmtree(self.workdir / 'checkpoints')
    file = self.workdir / 'config.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(draft=True)))
    tiny.train('sr', self.workdir, 1)
    self.assertLen(tiny.losses(self.workdir), 1)
    self.assertNotIn('draft', json.loads(file.read_text()))
    self.assertLen((self.workdir / run_files.DROPPED_METRICS).read_text()
                   .splitlines(), 3)

  def test_a_second_writer_is_refused_and_a_killed_one_is_not_waited_for(self):
    tiny.copy(tiny.run('sr'), self.workdir)
    with mock.patch.object(lease, 'GRACE_SECONDS', .1):
      held = lease.take(self.workdir / 'lease', '', print)
      self.assertRegex(self.refused(), 'in use by process .* is alive')
      held.release()
    process = subprocess.Popen(
        [sys.executable, '-c',
         'import os, sys; from walt_jax.core import lease; '
         'lease.take(sys.argv[1], "", print); os.kill(os.getpid(), 9)',
         str(self.workdir / 'lease')], env=xla_flags.environment(1))
    process.wait()
    self.assertLen(os.listdir(self.workdir / 'lease'), 1)
    result = tiny.train('sr', self.workdir, 4)
    self.assertNotIn('in use', result.err)
    self.assertFalse((self.workdir / 'lease').exists())

  def test_a_damaged_copy_of_the_tokenizer_is_refused(self):
    tiny.copy(tiny.run('sr'), self.workdir)
    file = self.workdir / 'tokenizer' / 'model.safetensors'
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    for argv in (tiny.flags('sr', self.workdir, 4, tokenizer__workdir=''),
                 ['sample', '--workdir', self.workdir, '--out',
                  self.folder / 'out']):
      result = tiny.walt(*argv)
      self.assertEqual(result.code, 2)
      self.assertIn('is not the tokenizer that the denoiser was trained with',
                    result.err)
    self.assertFalse((self.folder / 'out').exists())


if __name__ == '__main__':
  absltest.main()
