"""Absent GPUs: names, figures, what to install."""
import importlib.util
import re
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp

from tests.core import extras_test
from walt_jax.core import errors
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import gpu_topology

needs_wheels = absltest.skipUnless(
    importlib.util.find_spec('jax_plugins') and importlib.util.find_spec(
        'jax_plugins.xla_cuda12'),
    'the extra gpu_plan (jax-cuda12-pjrt) is not installed')


class WithoutCache(parameterized.TestCase):
  """Programs for absent chips are written to the cache, never read back."""

  def setUp(self):
    super().setUp()
    name = 'jax_enable_compilation_cache'
    self.addCleanup(jax.config.update, name, getattr(jax.config, name))
    jax.config.update(name, False)


class GpuTopologyTest(WithoutCache):

  def test_names(self):
    self.assertEqual(gpu_topology.parse('h100:4x8')[1:], (4, 8))
    self.assertEqual(gpu_topology.parse('l4:2x3')[1:], (2, 3))
    self.assertEqual(gpu_topology.parse('h100:3')[1:], (1, 3))
    chip, hosts, size = gpu_topology.parse('h100:16')
    self.assertEqual((chip.name, hosts, size), ('h100', 2, 8))
    self.assertTrue(gpu_topology.is_gpus('rtx4090:1'))
    self.assertFalse(gpu_topology.is_gpus('gpu:1'))
    self.assertFalse(gpu_topology.is_gpus('v5p:4x4x4'))

  @parameterized.parameters(
      'h100', 'h100:0', 'h100:12', 'h100:2x16', 'h100:0x8', 'v100:1')
  def test_other_names_are_errors(self, name):
    with self.assertRaisesRegex(errors.UserError, f'--topology {name}: give'):
      gpu_topology.parse(name)

  @parameterized.parameters(*gpu_topology.CHIPS)
  def test_every_chip_is_described(self, name):
    """By figures at most as good as those of its description."""
    chip = gpu_topology.CHIPS[name]
    text = (gpu_topology.SPECS / f'{name}.txtpb').read_text()
    figure = lambda key: float(re.search(rf'{key}: ([\d.]+)', text).group(1))
    self.assertBetween(
        chip.hbm_bandwidth / figure('memory_bandwidth'), .85, .87)
    self.assertBetween(
        chip.hbm_bytes / figure('device_memory_size'), .9, .92)
    self.assertLess(chip.reached_flops, chip.peak_flops)
    clock = 1e9 * figure('clock_rate_ghz')
    self.assertBetween(
        chip.exponentials / (16 * figure('core_count') * clock), .87, 1.001)

  def test_missing_wheels(self):
    for find in (lambda name: None,
                 mock.Mock(side_effect=ModuleNotFoundError('nvidia'))):
      with mock.patch.object(importlib.util, 'find_spec', find):
        with self.assertRaisesRegex(
            errors.UserError, r'h100:8 needs nvidia-cuda-nvcc-cu12.*gpu_plan'):
          gpu_topology.get_gpus('h100:8')
    self.assertIn('gpu_plan', extras_test.known_extras())

  @needs_wheels
  @parameterized.parameters(*gpu_topology.CHIPS)
  def test_compiles(self, name):
    gpus = gpu_topology.get_gpus(f'{name}:1')
    mesh = mesh_lib.make_mesh(1, 1, 1, devices=gpus.devices)
    self.assertEqual(mesh_lib.platform(mesh), 'gpu')
    everywhere = mesh_lib.replicated(mesh)
    shape = jax.ShapeDtypeStruct((256, 128), jnp.bfloat16)
    compiled = jax.jit(
        lambda x: jnp.exp(x @ x.T), in_shardings=everywhere).lower(
            shape).compile(compiler_options=gpus.compiler_options)
    self.assertIn('__cublas', compiled.as_text())

  @needs_wheels
  def test_hosts(self):
    devices = gpu_topology.get_gpus('h100:16').devices
    self.assertLen({device.process_index for device in devices}, 2)


if __name__ == '__main__':
  absltest.main()
