"""Charges of programs compiled for GPUs, from stored texts and fresh ones."""
import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp

from tests.planning import gpu_texts
from tests.planning import gpu_topology_test
from walt_jax.planning import counting
from walt_jax.planning import gpu_charges
from walt_jax.planning import gpu_topology
from walt_jax.planning import hlo
from walt_jax.planning import ledger
from walt_jax.planning import pallas_kernels

_H100 = gpu_topology.CHIPS['h100']
_MEASURED = (pathlib.Path(__file__).parents[2] / 'benchmarks' / 'results' /
             'h100_train_step.json')


def _charged(name, text=None):
  case = gpu_texts.CASES[name]
  kernels = {} if case.specs else pallas_kernels.kernels_of(case.traced())
  return gpu_charges.gpu_ledger(
      text or gpu_texts.text(name), _H100, kernels)


def _kernel(body, grid, out, *shapes, name='k'):
  """The `Kernel` of a call of `body` on blocks that are whole arrays."""
  call = lambda *args: pl.pallas_call(
      body, grid=grid, out_shape=out, name=name)(*args)
  return next(iter(pallas_kernels.kernels_of(
      jax.jit(call).trace(*shapes)).values()))


class TextsTest(gpu_topology_test.WithoutCache):

  def test_a_step_that_was_measured(self):
    rows = json.loads(_MEASURED.read_text())['rows']
    (measured,) = (row['ms'] for row in rows if row['who'] == 'walt_jax' and (
        row['form'], row['remat'], row['unroll']) == ('xla', 'minimal', 1))
    found = gpu_charges.gpu_ledger(gpu_texts.text('l_h100'), _H100, {})
    self.assertBetween(1e3 * found.seconds / measured, .97, 1.03)
    # `counting.product_flops` of the traced step: 93.298 TFLOP.
    self.assertAlmostEqual(found.flops / 1e12, 93.298, places=1)
    parts = found.by_part()
    self.assertLess(parts['rest'].seconds, .01 * found.seconds)
    # Two kinds of windows, 24 layers: logits and their gradients in memory.
    self.assertBetween(parts[ledger.ATTENTION_CORE].seconds, .13, .17)

  @parameterized.parameters(
      *(name for name, case in gpu_texts.CASES.items() if not case.specs))
  def test_products_are_those_of_the_trace(self, name):
    case = gpu_texts.CASES[name]
    found = _charged(name)
    self.assertEqual(
        found.flops, counting.product_flops(case.function, *case.shapes))
    self.assertEmpty(ledger.checked(
        found, executed_flops=found.flops, needed_bytes=1,
        capacity_bytes=2).refusals)

  def test_a_product_in_a_kernel_costs_no_less(self):
    plain, kernel = _charged('layers'), _charged('kernel_layers')
    self.assertGreater(kernel.seconds, .85 * plain.seconds)
    self.assertEqual(kernel.flops, plain.flops)
    (charge,) = (one for one in kernel.charges if 'kernel' in one.kind)
    self.assertEqual(charge.times, 3)
    self.assertIn('traced kernel', charge.how)

  def test_convolutions(self):
    found = _charged('convolution3d').by_kind()['convolution']
    # 27 taps of 64 x 128 channels at 2 x 8 x 32 x 32 places, three passes.
    self.assertEqual(found.flops, 3 * 2 * 27 * 64 * 128 * 2 * 8 * 32 * 32)
    self.assertEqual(found.calls, 3)

  def test_collectives(self):
    found = _charged('gathered_layers')
    (gather,) = (one for one in found.charges if one.is_collective)
    # Each of 8 sends its eighth of a layer of 2 MiB to 7.
    self.assertEqual((gather.times, gather.bytes), (3, 7 * 2**21 // 8))
    self.assertAlmostEqual(
        gather.seconds, gather.bytes / 450e9 + gpu_charges.LAUNCH_SECONDS)
    self.assertEqual(found.hidden_seconds, 0)  # It is waited for at once.
    text = gpu_texts.text('gathered_layers').replace(
        "mesh['axis_0'=1,'axis_1'=8,'axis_2'=1] {'axis_1'}",
        '[2,8]<=[8,2]T(1,0)')
    far = _charged('gathered_layers', text)
    self.assertGreater(far.collective_seconds, 5 * found.collective_seconds)

  def test_what_has_no_charge_is_an_error(self):
    text = gpu_texts.text('kernel_layers')
    with self.assertRaisesRegex(ledger.UncountedError, 'tile_product'):
      gpu_charges.gpu_ledger(text, _H100, {})
    for name, old, new, message in (
        ('layers', '__cublas$lt$matmul', '__cudnn$fmhaSoftmax', 'fmha'),
        ('layers', ' copy(', ' cholesky(', 'cholesky'),
        ('gathered_layers', "replica_groups=mesh['axis_0'", "x=mesh['y'",
         'groups')):
      changed = gpu_texts.text(name).replace(old, new)
      with self.assertRaisesRegex(ledger.UncountedError, message):
        _charged(name, changed)

  def test_totals_that_do_not_count(self):
    found = _charged('layers')
    checked = ledger.checked(
        found, executed_flops=int(1.05 * found.flops), needed_bytes=2**31,
        capacity_bytes=2**30)
    self.assertRegex(checked.refusals[0], '3% apart')
    self.assertRegex(checked.refusals[1], '2.0 GiB.* 1.0 GiB')
    # Equal work that the compiler does once is no less work.
    self.assertEmpty(ledger.checked(
        found, executed_flops=2 * found.flops, distinct_flops=found.flops,
        needed_bytes=1, capacity_bytes=1).refusals)

  @gpu_topology_test.needs_wheels
  @parameterized.parameters('layers', 'kernel_layers', 'gathered_layers')
  def test_texts_are_what_xla_writes(self, name):
    fresh = _charged(name, gpu_texts.compiled_text(
        gpu_texts.CASES[name]))
    stored = _charged(name)
    self.assertAlmostEqual(fresh.seconds / stored.seconds, 1, delta=.05)


class KernelsTest(absltest.TestCase):

  def test_work_is_that_of_loops_branches_and_programs(self):
    def body(x_ref, y_ref, out_ref):
      def step(i, total):
        part = x_ref[pl.ds(16 * i, 16), :]
        return total + part @ y_ref[...]
      total = jax.lax.fori_loop(0, 4, step, jnp.zeros((16, 32)))
      out_ref[...] = jax.lax.cond(
          pl.program_id(0) == 0, lambda: jnp.exp(total), lambda: total)

    wide = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    found = _kernel(body, (2, 3), wide(16, 32), wide(64, 32), wide(32, 32))
    self.assertEqual((found.results, found.grid), (('f32[16,32]',), (2, 3)))
    # Every load counts, whether or not an earlier one read the same.
    loads = 4 * (16 * 32 + 32 * 32)
    self.assertEqual(found.work, pallas_kernels.Work(
        wide_flops=6 * 4 * 2 * 16 * 32 * 32, exponentials=6 * 16 * 32,
        bytes=6 * 4 * (loads + 16 * 32)))

  def test_kernels_of_one_name_are_charged_for_the_costlier_in_each_way(self):
    def moves(x_ref, y_ref, out_ref):
      out_ref[...] = x_ref[...] + y_ref[...]

    def computes(x_ref, out_ref):
      out_ref[...] = jnp.exp(x_ref[...])

    shape = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    call = lambda body, *args: pl.pallas_call(
        body, out_shape=shape, name='k')(*args)
    (found,) = pallas_kernels.kernels_of(jax.jit(
        lambda x: (call(moves, x, x), call(computes, x))).trace(
            shape)).values()
    self.assertEqual(found.work, pallas_kernels.Work(
        exponentials=16 * 16, bytes=3 * 16 * 16 * 4))

  def test_what_cannot_be_counted_is_an_error(self):
    def endless(x_ref, out_ref):
      out_ref[...] = jax.lax.while_loop(
          lambda x: x[0, 0] < 8, lambda x: x @ x, x_ref[...])

    shape = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    with self.assertRaisesRegex(hlo.UncountedError, 'loop .* k '):
      _kernel(endless, (2,), shape, shape)


if __name__ == '__main__':
  absltest.main()
