"""`walt train` as two processes of four devices: lost, stopped, resumed."""
import os
import pathlib
import re
import signal
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tests.e2e import clusters
from tests.e2e import mesh_samples
from tests.e2e import tiny
from walt_jax.core import run_files
from walt_jax.media import images
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.training import workdir as workdir_lib

_ENDLESS = 10**6
_QUIET = dict(train__eval_every=0, train__save_every=8)
# TensorFlow takes seconds to import: one test of processes writes its events.
_NO_EVENTS = dict(train__writers=())
_MESH = dict(mesh__data=2, mesh__fsdp=4, mesh__tensor=1)


def last_line(workdir: pathlib.Path) -> int:
  lines = run_files.read_metrics(workdir).lines
  return lines[-1]['step'] if lines else -1


class ProcessesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def start_two(self, argv, supervised=True):
    """Two processes of four devices; `argv(port, process)` of each."""
    return clusters.started(self, self.folder, 2, argv, devices=4,
                            supervised=supervised)

  def start(self, workdir, num_steps, stage='sr', supervised=True, **changed):
    """Two supervisors, each with a process of four devices; or those alone."""
    return self.start_two(lambda port, process: [
        'walt_jax',
        *tiny.flags(stage, workdir, num_steps, **_QUIET | _MESH | changed),
        '--coordinator', f'localhost:{port}', '--process', f'{process}/2',
        '--host_timeout', clusters.TIMEOUT], supervised)

  def log(self, process: int) -> str:
    return (self.folder / f'{process}.log').read_text()

  def wait_for(self, processes, condition):
    deadline = time.monotonic() + clusters.PATIENCE
    while not condition():
      for index, process in enumerate(processes):
        self.assertIsNone(process.poll(), self.log(index))
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.02)

  def codes(self, processes, seconds=clusters.PATIENCE):
    return [process.wait(seconds) for process in processes]

  def test_one_process_then_two_then_one(self):
    workdir, reference = self.folder / 'run', self.folder / 'reference'
    tiny.train('sr', workdir, 2, **_QUIET)
    tiny.copy(workdir, reference)

    # A preemption notice to one host stops both after the same step.
    processes = self.start(workdir, _ENDLESS, **_NO_EVENTS)
    self.wait_for(processes, lambda: last_line(workdir) >= 4)
    processes[1].send_signal(signal.SIGTERM)
    self.assertEqual(self.codes(processes), [75, 75], self.log(0))
    stopped = workdir_lib.WorkDir(workdir).newest_step()
    self.assertGreaterEqual(stopped, 4)
    self.assertEqual(last_line(workdir), stopped)

    # A process that is killed is named by the other within the limit.
    processes = self.start(workdir, _ENDLESS, **_NO_EVENTS)
    self.wait_for(processes, lambda: (
        workdir_lib.WorkDir(workdir).newest_step() > stopped and
        last_line(workdir) > workdir_lib.WorkDir(workdir).newest_step()))
    os.kill(clusters.child_of(processes[1].pid), signal.SIGKILL)
    began = time.monotonic()
    self.assertEqual(self.codes(processes, clusters.LIMIT), [76, 76])
    self.assertLess(time.monotonic() - began, clusters.LIMIT)
    last = [line for line in self.log(0).splitlines()
            if line.startswith('walt: ')][-1]
    self.assertRegex(last, 'process 1 .*killed by SIGKILL.*Run the same')

    # Both again: exactly what two processes without a break do.
    end = workdir_lib.WorkDir(workdir).newest_step() + 2
    processes = self.start(workdir, end, **_NO_EVENTS)
    self.assertEqual(self.codes(processes), [0, 0], self.log(0))
    self.assertTrue(re.search(r'resumed at step \d+', self.log(0)))
    processes = self.start(reference, end, supervised=False, **_NO_EVENTS)
    self.assertEqual(self.codes(processes), [0, 0], self.log(0))
    tiny.assert_same_checkpoint(workdir, reference, end)
    self.assertEqual(
        tiny.metrics_text(workdir), tiny.metrics_text(reference))

    # And one process again: as one process from the first step on.
    tiny.train('sr', workdir, end + 2, **_QUIET)
    unbroken = self.folder / 'unbroken'
    tiny.train('sr', unbroken, end + 2, **_QUIET)
    ours, theirs = tiny.losses(workdir), tiny.losses(unbroken)
    self.assertLen(ours, end + 2)
    np.testing.assert_allclose(ours[:12], theirs[:12], rtol=2e-5)
    # Rounding differs between meshes, and grows from step to step.
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)

  @parameterized.parameters('tokenizer', 'base')  # And 'sr' above.
  def test_five_steps_of_two_processes_amid_those_of_one(self, stage):
    workdir, one = self.folder / 'two', self.folder / 'one'
    tiny.train(stage, workdir, 1, **_QUIET)
    events = {} if stage == 'base' else _NO_EVENTS
    processes = self.start(workdir, 6, stage, supervised=False, **events)
    self.assertEqual(self.codes(processes), [0, 0], self.log(0))
    tiny.train(stage, workdir, 7, **_QUIET)
    tiny.train(stage, one, 7, **_QUIET)
    self.assertLen(tiny.losses(workdir), 7)
    np.testing.assert_allclose(
        tiny.losses(workdir), tiny.losses(one), rtol=1e-4)

  @parameterized.parameters(
      ('tokenizer', 'reconstructions', 'psnr'),
      # It predicts frames: its loss and its samples come twice.
      ('rollout', 'samples_given', 'v_loss_given'))
  def test_held_out_scores_and_pictures_of_two_processes_are_those_of_one(
      self, stage, picture, score):
    changed = dict(train__eval_every=1)
    processes = self.start(
        self.folder / 'two', 0, stage, supervised=False, **changed)
    tiny.train(stage, self.folder / 'one', 0, **_QUIET | changed)
    self.assertEqual(self.codes(processes), [0, 0], self.log(0))
    (ours,), (theirs,) = (
        [line for line in run_files.read_metrics(self.folder / name).lines
         if f'eval/{score}' in line] for name in ('two', 'one'))
    names = [name for name in theirs if name.startswith('eval/')]
    for name in names:
      np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)
    sheets = [sorted((self.folder / name / run_files.IMAGES).iterdir())
              for name in ('two', 'one')]
    self.assertEqual(*([path.name for path in paths] for paths in sheets))
    self.assertTrue(any(picture in path.name for path in sheets[0]))
    for pair in zip(*sheets, strict=True):
      two, one = (images.read(path).astype(int) for path in pair)
      self.assertGreater(one.std(), 5)
      self.assertLessEqual(abs(two - one).max(), 1)

  def test_samples_are_those_of_one_process(self):
    out = self.folder / 'drawn.npy'
    processes = self.start_two(lambda port, process: [
        'tests.e2e.mesh_samples', f'localhost:{port}', str(process), '2',
        str(out)], supervised=False)
    self.assertEqual(self.codes(processes), [0, 0], self.log(0))
    one = mesh_samples.draw_on(
        mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1]))
    self.assertGreater(one.std(), 0.1)
    np.testing.assert_allclose(np.load(out), one, rtol=1e-3, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
