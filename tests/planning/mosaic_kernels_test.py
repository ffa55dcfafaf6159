"""Costs of Pallas kernels on a TPU, from bundles and block specs."""
import importlib.util

from absl.testing import absltest
import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from tests.planning import gpu_topology_test
from walt_jax.planning import bundles
from walt_jax.planning import hlo
from walt_jax.planning import ledger
from walt_jax.planning import mosaic_kernels
from walt_jax.planning import pallas_kernels
from walt_jax.planning import topology
from walt_jax.planning import tpu_charges

# Shortened from a dump: two bundles, a grid's loop of three (one of them
# empty, as it stands at the end of a region) around a loop of two.
DUMP = '''
= control target key start
LB: loop body
= control target key end

     0   :  { %s1 = sld [smem:[#allocation0]] }
   0x1   :  { %s2 = sadd.s32 1, %s1  ;;  %s3 = smov 2
hlo: my_kernel.1
 */ }
   0x2 LB: > { %s4 = sphi 0, %s5 }
   0x3   :  {} /* End region 30 */
   0x4 LB: >> { %v1 = vadd.f32 %v2, %v3 }
   0x5   : >> { %v4 = vmul.f32 %v2, %v3 }
   0x6 PF: > { %s5 = sadd.s32 1, %s4 }
   0x7   :  { %s9 = sld [smem:[#allocation0]] }
'''
STEPS, TURNS = 8, 5


def _kernel(x, y, out):
  def add(_, total):
    return total + jnp.dot(
        x[...], y[...], preferred_element_type=jnp.float32)

  out[...] = jax.lax.fori_loop(
      0, TURNS, add, jnp.zeros(out.shape, jnp.float32)).astype(out.dtype)


def _call(x, y):
  return pl.pallas_call(
      _kernel, grid=(STEPS,), name='summed_product',
      in_specs=[pl.BlockSpec((256, 256), lambda i: (i, 0)),
                pl.BlockSpec((256, 256), lambda i: (0, 0))],
      out_specs=pl.BlockSpec((256, 256), lambda i: (i, 0)),
      out_shape=jax.ShapeDtypeStruct((2048, 256), jnp.bfloat16),
      compiler_params=pltpu.CompilerParams(
          dimension_semantics=('parallel',)))(x, y)


def _traced(sharding=None):
  shape = lambda *sizes: jax.ShapeDtypeStruct(
      sizes, jnp.bfloat16, sharding=sharding)
  return jax.jit(_call).trace(shape(2048, 256), shape(256, 256))


class BundlesTest(absltest.TestCase):

  def test_loops_of_a_dump(self):
    found = bundles.parse(DUMP)
    self.assertEqual(found.count, 3)
    self.assertEqual(found.loops[0].count, 3)
    self.assertEqual(found.loops[0].loops, [bundles.Loop(2, [])])

  def test_no_bundle_is_an_error(self):
    with self.assertRaises(hlo.UncountedError):
      bundles.parse('nothing')

  def test_loops_turn_as_often_as_the_trace_says(self):
    _, call = next(iter(pallas_kernels.calls_of(_traced()).values()))
    total = mosaic_kernels.total_bundles(
        bundles.parse(DUMP), call.params['jaxpr'], STEPS, 'summed_product')
    self.assertEqual(total, 3 + STEPS * (3 + TURNS * 2))

  def test_a_loop_that_the_trace_lacks_is_an_error(self):
    _, call = next(iter(pallas_kernels.calls_of(_traced()).values()))
    more = DUMP.replace(
        '   0x6 PF', '   0x6 LB: >> { %v5 = vmov 1 }\n   0x6 PF')
    with self.assertRaisesRegex(hlo.UncountedError, 'loop'):
      mosaic_kernels.total_bundles(
          bundles.parse(more), call.params['jaxpr'], STEPS, 'summed_product')


class CallsTest(absltest.TestCase):

  def test_kernels_of_one_name_and_result_are_told_apart_by_operands(self):
    """As attention with and without a text beside its window."""
    def call(x, length):
      def kernel(x, y, out):
        out[...] = jnp.dot(x[...], y[...])

      y = jnp.zeros((length, 128), jnp.float32)
      return pl.pallas_call(
          kernel, out_shape=jax.ShapeDtypeStruct((128, 128), jnp.float32),
          name='product')(x[:, :length], y)

    traced = jax.jit(lambda x: call(x, 128) + call(x, 256)).trace(
        jax.ShapeDtypeStruct((128, 256), jnp.float32))
    work = [kernel.work.all_flops
            for kernel, _ in pallas_kernels.calls_of(traced).values()]
    self.assertEqual(work, [2 * 128 * 128 * 128, 2 * 128 * 256 * 128])


class BlocksTest(absltest.TestCase):

  def test_a_block_that_stays_is_moved_once(self):
    _, call = next(iter(pallas_kernels.calls_of(_traced()).values()))
    self.assertEqual(mosaic_kernels.block_bytes(call),
                     2 * 256 * 256 * (STEPS + 1 + STEPS))


@absltest.skipIf(importlib.util.find_spec('libtpu') is None,
                 'libtpu is not installed (extra tpu_plan)')
class CompiledTest(gpu_topology_test.WithoutCache):

  def test_a_kernel_of_a_compiled_program(self):
    place = topology.get_slice('v5e:2x2')
    mesh = jax.sharding.Mesh(np.array(place.devices[:1]), ('x',))
    traced = _traced(NamedSharding(mesh, P()))
    costs = mosaic_kernels.costs(traced, place)
    charged = tpu_charges.tpu_ledger(
        traced.lower().compile().as_text(), place, costs)
    kernel = next(one for one in charged.charges
                  if one.kind == 'kernel summed_product')
    flops = STEPS * TURNS * 2 * 256**3
    self.assertEqual(kernel.flops, flops)
    # Not faster than the products alone, nor ten times slower.
    peak = flops / place.chip.peak_flops
    self.assertBetween(kernel.seconds, peak, 10 * peak)
    self.assertIn('bundles', kernel.how)
    self.assertEqual(ledger.checked(
        charged, executed_flops=flops, needed_bytes=0,
        capacity_bytes=1).refusals, ())


if __name__ == '__main__':
  absltest.main()
