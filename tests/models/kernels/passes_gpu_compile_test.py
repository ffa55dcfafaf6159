"""Passes of a layer, compiled for an H100 that is not there."""
import re

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from tests.planning import gpu_topology_test
from walt_jax.models import blocks
from walt_jax.models import passes
from walt_jax.models import remat
from walt_jax.planning import gpu_programs
from walt_jax.planning import gpu_topology

TOKENS = (2, 1, 16, 16, 128)


def trace(device, policy):
  """The gradient of an MLP behind a norm, with its residual sum."""
  sharding = jax.sharding.SingleDeviceSharding(device)
  absent = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
  module = blocks.Mlp(512, 'gelu', 'triton', jnp.bfloat16,
                      keeps_activation=remat.keeps_passes(policy))
  x = jnp.zeros(TOKENS, jnp.bfloat16)
  vector = jnp.zeros((TOKENS[0], 1, TOKENS[-1]))
  params = jax.eval_shape(module.init, jax.random.key(0), x)

  def layer(params, x, vector):
    x, y = passes.norm(x, vector, vector, jnp.bfloat16, 'triton')
    return passes.residual_sum(x, module.apply(params, y), vector, 'triton')

  layer = jax.checkpoint(layer, policy=remat.POLICIES[policy])

  def loss(*arguments):
    out = layer(*arguments)
    # A kernel's result that is not all ones.
    return jnp.sum(out.astype(jnp.float32) ** 2)

  return jax.jit(jax.grad(loss, (0, 1, 2))).trace(
      *jax.tree.map(absent, (params, x, vector)))


class PassesGpuCompileTest(gpu_topology_test.WithoutCache):

  @gpu_topology_test.needs_wheels
  def test_products_take_biases_and_gelu(self):
    gpus = gpu_topology.get_gpus('h100:1')
    for policy, gelus in dict(matmuls=3, minimal=4).items():
      compiled, ledger = gpu_programs.compile_program(
          trace(gpus.devices[0], policy), gpus)
      assert compiled.text is not None
      epilogues = re.findall(r'"epilogue":"(\w+)"', compiled.text)
      self.assertEqual(
          sorted(one for one in epilogues if one != 'DEFAULT'),
          ['BIAS', 'BIAS_GELU_AUX'], policy)
      # No pass over tokens but the kernels: what they move, and no more.
      hidden = 4 * np.prod(TOKENS) * 2
      kernels = [one for one in ledger.charges
                 if one.kind == 'kernel gelu_backward']
      self.assertLen(kernels, 1)
      self.assertBetween(kernels[0].bytes, gelus * hidden,
                         1.1 * gelus * hidden, policy)
      self.assertRegex(kernels[0].registers, ', 0 bytes spilled$')


if __name__ == '__main__':
  absltest.main()
