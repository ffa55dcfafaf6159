"""Two processes restore one step, whichever of them finds the damage."""
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
import jax
import numpy as np
import pytest

from tests import ports
from tests import xla_flags
from tests.training import damage_test
from walt_jax.core import run_files
from walt_jax.parallel import distributed
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.training import checkpoint_params
from walt_jax.training import checkpoints
from walt_jax.training import retention

P = jax.sharding.PartitionSpec
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PATIENCE = 240.0  # Seconds; the machine may be busy.
_MINE = 8  # First row of the second process.


def _values(step: int) -> np.ndarray:
  return np.random.default_rng(step).integers(
      -2**31, 2**31, size=(16, 64), dtype=np.int32)


def _state(step: int, mesh) -> damage_test.State:
  put = lambda value, spec: multihost.put(
      value, jax.sharding.NamedSharding(mesh, spec))
  return damage_test.State(
      put(np.int32(step), P()),
      {'kernel': put(_values(step), P('fsdp')),
       'bias': put(np.arange(4, dtype=np.float32), P())})


def _work(process: int, port: int, workdir: str) -> None:
  jax.distributed.initialize(f'localhost:{port}', 2, process)
  mesh = mesh_lib.make_mesh(fsdp=2)
  abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      _state(0, mesh))

  def restored() -> int:
    found = checkpoints.Checkpoints(workdir, {'seed': 0}).restore(abstract)
    rows = slice(process * _MINE, (process + 1) * _MINE)
    np.testing.assert_array_equal(
        multihost.local_rows(found.state.params['kernel']),
        _values(found.step)[rows])
    return found.step

  def save(*steps):
    run = checkpoints.Checkpoints(workdir, {'seed': 0},
                                  keep=retention.Keep(newest=3))
    for step in steps:
      run.save(step, _state(step, mesh), step)
    run.close()

  save(1, 2)
  assert restored() == 2
  if process == 0:
    _damage(pathlib.Path(workdir) / 'checkpoints' / '2')
  distributed.barrier('damaged')
  steps = [restored()]
  save(3)
  read = checkpoints._restore_state

  def fail(path, abstract):
    if process == 1 and path.name == '3':
      raise ValueError('DATA_LOSS: no such bytes')
    return read(path, abstract)

  with mock.patch.object(checkpoints, '_restore_state', fail):
    steps.append(restored())
  # What both hold together, read by one of them after the other.
  params = checkpoint_params.restore_params(
      workdir, ema=False, step=1, mesh=mesh, rules=(
          ('kernel', P('fsdp', None)), ('bias', P())))
  np.testing.assert_array_equal(
      multihost.local_rows(params['kernel']), _values(1)[
          process * _MINE:(process + 1) * _MINE])
  print('restored', *steps)


def _damage(checkpoint: pathlib.Path) -> None:
  """Changes a bit of the second process's rows."""
  row = _values(2)[_MINE + 1, :2].tobytes()
  found = [file for file in checkpoint.rglob('*')
           if file.is_file() and row in file.read_bytes()]
  assert found
  for file in found:
    file.write_bytes(file.read_bytes().replace(
        row, bytes([row[0] ^ 1]) + row[1:]))


class DamageProcessesTest(absltest.TestCase):

  @pytest.mark.slow
  def test_all_restore_the_same_older_one(self):
    workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())) / 'w'
    port = ports.free_port()
    command = [sys.executable, '-m', 'tests.training.damage_processes_test']
    workers = [subprocess.Popen(
        [*command, 'work', str(process), str(port), str(workdir)], cwd=_ROOT,
        env=xla_flags.environment(1) | {'PYTHONPATH': str(_ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True) for process in range(2)]
    for worker in workers:
      self.addCleanup(worker.kill)
    outputs = []
    for worker in workers:
      output, _ = worker.communicate(timeout=_PATIENCE)
      self.assertEqual(worker.returncode, 0, output)
      self.assertIn('restored 1 1', output)
      outputs.append(output)
    self.assertIn('checkpoint 2', outputs[0])
    self.assertIn('params/kernel', outputs[0])
    self.assertIn('no such bytes (process 1)', outputs[0])
    self.assertNotIn('damaged:', outputs[1])
    self.assertEqual(run_files.damaged_steps(workdir), [2, 3])


if __name__ == '__main__':
  if sys.argv[1:2] == ['work']:
    _work(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
  else:
    absltest.main()
