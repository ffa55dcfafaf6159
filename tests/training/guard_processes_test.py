"""Two processes agree on a failed step and write one bundle together."""
import pathlib
import socket
import subprocess
import sys
import tempfile

from absl.testing import absltest
import jax
import numpy as np
import pytest

from tests import xla_flags
from tests.training import guard_test
from tests.training import toy_stage
from walt_jax.core import run_files
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.training import checkpoints as checkpoints_lib
from walt_jax.training import logging as logging_lib
from walt_jax.training import loop
from walt_jax.training import replay
from walt_jax.training import replay_bundles

_BAD = (3,)
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PATIENCE = 240.0  # Seconds; the machine may be busy.


def _work(process: int, port: int, workdir: str) -> None:
  """Trains as one of two processes; only the second has the bad row."""
  jax.distributed.initialize(f'localhost:{port}', 2, process)
  mesh = mesh_lib.make_mesh(fsdp=2)

  def batches(start):
    # The toy's bad value is in row 3: give the first process the last rows.
    rows = slice(4, 8) if process == 0 else slice(0, 4)
    for batch in guard_test.batches_with(_BAD)(start):
      yield jax.tree.map(lambda x, rows=rows: x[rows], batch)

  writer = (logging_lib.Writer(workdir, writers=()) if process == 0
            else logging_lib.NullWriter())
  state = loop.run(
      toy_stage.make_stage(), batches, mesh,
      loop.LoopOptions(num_steps=6, log_every=1),
      checkpoints_lib.Checkpoints(workdir, {'width': 8}), writer)
  print('skipped and continued to', int(jax.device_get(state.step)))


class GuardProcessesTest(absltest.TestCase):

  @pytest.mark.slow
  def test_one_process_sees_what_the_other_computed(self):
    workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())) / 'w'
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    environment = xla_flags.environment(1) | {'PYTHONPATH': str(_ROOT)}
    command = [sys.executable, '-m', 'tests.training.guard_processes_test']
    workers = [subprocess.Popen(
        [*command, 'work', str(process), str(port), str(workdir)], cwd=_ROOT,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True) for process in range(2)]
    for worker in workers:
      self.addCleanup(worker.kill)
    for worker in workers:
      output, _ = worker.communicate(timeout=_PATIENCE)
      self.assertEqual(worker.returncode, 0, output)
      self.assertIn('continued to 6', output)
    self.assertEqual(replay_bundles.kept(workdir), {3})
    lines = run_files.read_metrics(workdir).lines
    self.assertEqual([line['step'] for line in lines], [1, 2, 3, 4, 5, 6])
    self.assertNotIn('train/loss', lines[3])
    # One process takes the step of two again.
    mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
    outcome = replay.replay(replay_bundles.path_of(workdir, 3),
                            toy_stage.make_stage(), toy_stage.batches, mesh)
    self.assertTrue(outcome.failed)
    self.assertEqual(outcome.bad_inputs, ['x'])
    self.assertFalse(np.isfinite(outcome.metrics['loss']))


if __name__ == '__main__':
  if sys.argv[1:2] == ['work']:
    _work(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
  else:
    absltest.main()
