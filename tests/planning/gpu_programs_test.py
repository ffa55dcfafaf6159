"""Programs compiled for absent GPUs: memory and ledger together."""
from absl.testing import absltest

from tests.planning import gpu_texts
from tests.planning import gpu_topology_test
from walt_jax.planning import gpu_programs
from walt_jax.planning import gpu_topology


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
