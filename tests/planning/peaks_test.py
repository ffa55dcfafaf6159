"""The kinds of devices that JAX names, and the chips that they are."""
import types

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.planning import peaks
from walt_jax.planning import summary


def device(kind, platform='tpu', **more):
  return types.SimpleNamespace(device_kind=kind, platform=platform, **more)


class PeaksTest(parameterized.TestCase):

  # As published by the makers.
  @parameterized.parameters(
      ('TPU v4', 275), ('TPU v5 lite', 197), ('TPU v5', 459),
      ('TPU v6 lite', 918), ('TPU7x', 2307), ('NVIDIA H100 80GB HBM3', 989),
      ('NVIDIA A100-SXM4-80GB', 312), ('NVIDIA H100 PCIe', None),
      ('cpu', None), ('', None))
  def test_peak_of_a_kind(self, kind, expected):
    found = peaks.peak_flops(device(kind))
    self.assertEqual(found, expected and expected * 1e12)

  def test_cores_of_one_chip_are_one(self):
    cores = [device('TPU v4', coords=(x, 0, 0), core_on_chip=core)
             for x in range(2) for core in range(2)]
    mesh = types.SimpleNamespace(devices=np.array(cores).reshape(4, 1, 1))
    self.assertEqual(peaks.num_chips(mesh), 2)
    for number, core in enumerate(cores):  # Two slices of one chip.
      core.coords, core.slice_index = (0, 0, 0), number // 2
    self.assertEqual(peaks.num_chips(mesh), 2)
    mesh = types.SimpleNamespace(devices=np.array(jax.devices()[:3]))
    self.assertEqual(peaks.num_chips(mesh), 3)


class StepFlopsTest(absltest.TestCase):

  def test_those_of_the_plan(self):
    config = schema.of(config_lib.load('configs/quickstart.py:smoke', []))
    plan = summary.plan(config)
    self.assertEqual(
        summary.step_flops(config)(0),
        plan['model_flops_per_step'] + plan['self_condition_flops_per_step'])

  def test_a_discriminator_counts_from_its_first_step(self):
    config = schema.of(config_lib.load('configs/tokenizer_video.py:smoke', [
        ('losses.adversarial_start', '3')]))
    plan, flops = summary.plan(config), summary.step_flops(config)
    self.assertGreater(plan['discriminator_flops_per_step'], 0)
    self.assertEqual(flops(2), plan['model_flops_per_step'])
    self.assertEqual(
        flops(3), flops(2) + plan['discriminator_flops_per_step'])


if __name__ == '__main__':
  absltest.main()
