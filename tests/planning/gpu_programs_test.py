"""Programs compiled for absent GPUs: memory and ledger together."""
from absl.testing import absltest

from tests.planning import gpu_texts
from tests.planning import gpu_topology_test
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.planning import gpu_programs
from walt_jax.planning import gpu_registers
from walt_jax.planning import gpu_topology
from walt_jax.planning import topology_plan

_ASSEMBLER = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'window' for 'sm_90a'
ptxas info    : Function properties for window
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 180 registers, used 1 barriers
ptxas info    : Compiling entry function 'window_1' for 'sm_90a'
ptxas info    : Function properties for window_1
    24 bytes stack frame, 32 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers
ptxas info    : Compiling entry function 'other' for 'sm_90a'
    8 bytes stack frame, 80 bytes spill stores, 80 bytes spill loads
ptxas info    : Used 255 registers
"""


class GpuProgramsTest(gpu_topology_test.WithoutCache):

  @gpu_topology_test.needs_wheels
  def test_memory_and_ledger(self):
    gpus = gpu_topology.get_gpus('h100:8')
    case = gpu_texts.CASES['gathered_layers']
    compiled, ledger = gpu_programs.compile_program(
        case.traced(gpus.devices), gpus)
    # An eighth of the rows in and out, of the weights in; a whole layer.
    rows, weights = 2 * 512 * 1024, 2 * 3 * 128 * 1024
    self.assertBetween(compiled.needed_bytes, 2 * rows + weights + 2**21,
                       2 * rows + weights + 40 * 2**20)
    self.assertIsNone(compiled.error)
    self.assertEqual(compiled.collectives[0].count, 3)
    self.assertEqual(ledger.flops, 3 * 2 * 512 * 1024 * 1024)
    self.assertEmpty(ledger.refusals)

  @gpu_topology_test.needs_wheels
  def test_registers_of_kernels(self):
    gpus = gpu_topology.get_gpus('h100:1')
    _, ledger = gpu_programs.compile_program(
        gpu_texts.CASES['kernel_layers'].traced(gpus.devices), gpus)
    (kernel,) = (one for one in ledger.charges if 'kernel' in one.kind)
    self.assertRegex(kernel.registers, r'^\d+ registers, 0 bytes spilled$')

  @gpu_topology_test.needs_wheels
  def test_what_needs_a_gpu_is_refused(self):
    config = schema.of(config_lib.load('configs/ucf101.py:smoke', [
        ('model.attention_form', 'cudnn'), ('model.dtype', 'bfloat16')]))
    with self.assertRaisesRegex(errors.UserError, "'cudnn'.*auto"):
      topology_plan.topology_plan(config, 'h100:1', {})

  def test_the_largest_of_a_name_is_reported(self):
    self.assertEqual(
        gpu_registers.read(_ASSEMBLER, ('window', 'win')),
        dict(window=gpu_registers.Registers(255, 52)))

  @gpu_topology_test.needs_wheels
  def test_what_does_not_fit_has_no_total(self):
    gpus = gpu_topology.get_gpus('l4:1')
    case = gpu_texts.CASES['layers']
    big = gpu_texts.Case(case.function, tuple(
        gpu_texts.struct(*shape) for shape in (
            (2**21, 1024), (3, 1024, 4096), (3, 4096, 1024))))
    compiled, ledger = gpu_programs.compile_program(
        big.traced(gpus.devices), gpus)
    self.assertRegex(compiled.error, 'it needs .* bytes')
    self.assertRegex(ledger.refusals[0], 'it needs .* GiB')


if __name__ == '__main__':
  absltest.main()
