"""The engine: failures are told, a killed worker does not hang the run."""
import functools
import os
import pathlib
import signal
import tempfile

from absl.testing import absltest

from walt_jax.core import errors
from walt_jax.data.prepare import beam


def _touch(folder, fail_at, kill_at, item):
  """Leaves a file; fails, or kills its own process, where told to."""
  if item == kill_at:
    os.kill(os.getpid(), signal.SIGKILL)
  if item == fail_at:
    raise errors.UserError(f'disk {item} is full \udcff')
  pathlib.Path(folder, str(item)).write_text('')


class EngineTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = self.enterContext(tempfile.TemporaryDirectory())

  def _run(self, workers=1, fail_at=None, kill_at=None, items=6):
    beam.run(functools.partial(_touch, self.folder, fail_at, kill_at),
               list(range(items)), done=lambda: len(os.listdir(self.folder)),
               total=items, label='touch', workers=workers)

  def test_runs_all_and_tells_failures(self):
    self._run(items=0)
    with self.assertRaisesRegex(errors.UserError, 'disk 3 is full'):
      self._run(fail_at=3)
    self.assertLen(os.listdir(self.folder), 5)
    self._run()
    self.assertLen(os.listdir(self.folder), 6)

  def test_several_workers_and_one_that_is_killed(self):
    with self.assertRaisesRegex(errors.UserError, 'killed.*-9'):
      self._run(workers=2, kill_at=3)
    with self.assertRaisesRegex(errors.UserError, 'disk 3 is full'):
      self._run(workers=2, fail_at=3)
    self.assertLen(os.listdir(self.folder), 5)

  def test_options_choose_the_runner(self):
    with self.assertRaisesRegex(errors.UserError, 'NoSuchRunner'):
      beam.run(print, [0], done=lambda: 0, total=1, label='print',
                 pipeline_options='runner=NoSuchRunner')
    beam.run(functools.partial(_touch, self.folder, None, None), [7],
               done=lambda: 0, total=1, label='touch',
               pipeline_options='runner=BundleBasedDirectRunner')
    self.assertEqual(os.listdir(self.folder), ['7'])


if __name__ == '__main__':
  absltest.main()
