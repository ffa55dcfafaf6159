"""Kernels of window attention, compiled for an H100 that is not there."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from tests.planning import gpu_topology_test
from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import operands as operands_lib
from walt_jax.planning import gpu_programs
from walt_jax.planning import gpu_topology

KERNELS = {'kernel window_attention_forward',
           'kernel window_attention_backward_keys',
           'kernel window_attention_backward_queries'}
ROWS, HEADS = 2, 2


def trace(device, grid, window, width):
  """Attention of a layer and its gradients, with two heads."""
  sharding = jax.sharding.SingleDeviceSharding(device)
  struct = lambda shape, dtype: jax.ShapeDtypeStruct(
      shape, dtype, sharding=sharding)
  tokens = struct((ROWS, *grid, HEADS, width), jnp.bfloat16)
  scale = struct((width,), jnp.float32)
  length = int(np.prod(window))
  operands = operands_lib.Operands(
      tokens, tokens, tokens, scale, scale,
      struct((HEADS, length, length), jnp.float32))
  is_image = struct((ROWS,), jnp.bool_)

  def gradients(operands, is_image, cotangent):
    context, vjp = jax.vjp(lambda one: fused_attention.attend(
        one._replace(is_image=is_image), window, 'fused_gpu'), operands)
    return context, vjp(cotangent)

  return jax.jit(gradients).trace(operands, is_image, tokens)


class WindowAttentionGpuCompileTest(gpu_topology_test.WithoutCache):

  @parameterized.parameters(
      ((5, 16, 16), (1, 16, 16), 64),
      ((5, 16, 16), (5, 8, 8), 64),
      ((5, 16, 28), (5, 8, 14), 72),
  )
  @gpu_topology_test.needs_wheels
  def test_kernels_spill_no_registers(self, grid, window, width):
    gpus = gpu_topology.get_gpus('h100:1')
    compiled, ledger = gpu_programs.compile_program(
        trace(gpus.devices[0], grid, window, width), gpus)
    kernels = {one.kind: one.registers for one in ledger.charges
               if one.kind in KERNELS}
    self.assertEqual(set(kernels), KERNELS)
    for name, registers in kernels.items():
      self.assertRegex(registers, r'^\d+ registers, 0 bytes spilled$', name)
    # Gradients of all logits are kept once, in bfloat16; logits are not.
    length = np.prod(window)
    logits = 4 * ROWS * np.prod(grid) * HEADS * length
    self.assertLess(compiled.temporary_bytes, logits)


if __name__ == '__main__':
  absltest.main()
