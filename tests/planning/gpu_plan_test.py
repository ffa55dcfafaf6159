"""`walt plan` for absent GPUs."""
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from tests.planning import gpu_texts
from tests.planning import gpu_topology_test
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.commands import cli
from walt_jax.core import errors
from walt_jax.planning import gpu_plan
from walt_jax.planning import gpu_programs
from walt_jax.planning import gpu_topology

_SMOKE = 'configs/ucf101.py:smoke'


class GpuPlanTest(gpu_topology_test.WithoutCache):

  @parameterized.parameters(
      ('h100:0',), ('h100',), ('h100:8', '--sweep'),
      ('h100:8', '--largest_batch'),
      ('l4:1', '--no_train_step', '--no_sampler'))
  def test_user_errors(self, name, *flags):
    self.assertEqual(cli.main(
        ['plan', '--config', _SMOKE, '--topology', name, *flags]), 2)

  def test_what_needs_a_gpu_is_refused(self):
    config = schema.of(config_lib.load(_SMOKE, [
        ('model.attention_form', 'cudnn'), ('model.dtype', 'bfloat16')]))
    with self.assertRaisesRegex(errors.UserError, "'cudnn'.*auto"):
      gpu_plan.topology_plan(config, 'h100:1', {})

  @gpu_topology_test.needs_wheels
  def test_plan(self):
    """The step of another program stands for the config's own: compiling
    that takes a minute."""
    gpus = gpu_topology.get_gpus('h100:1')
    real = gpu_programs.compile_program
    traced = gpu_texts.CASES['layers'].traced(gpus.devices)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(
        gpu_programs, 'compile_program',
        lambda unused_traced, gpus: real(traced, gpus)):
      path = pathlib.Path(folder) / 'plan.json'
      self.assertEqual(cli.main([
          'plan', '--config', _SMOKE, '--topology', 'h100:1', '--no_sampler',
          '--json', str(path), '--html', str(path.with_suffix('.html'))]), 0)
      plan = json.loads(path.read_text())
    self.assertIs(plan['fits'], True)
    self.assertEqual(plan['hbm_capacity_bytes'], 72 * 2**30)
    self.assertEqual(plan['predicted_seconds'], plan['ledger']['seconds'])
    self.assertEqual(sum(
        part['seconds'] for part in plan['ledger']['by_part'].values()),
        plan['ledger']['seconds'])
    self.assertEqual(plan['chip_figures']['hbm_bandwidth'], 2.9e12)


if __name__ == '__main__':
  absltest.main()
