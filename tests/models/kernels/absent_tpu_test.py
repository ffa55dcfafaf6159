"""Kernels of window attention compile for TPUs that are not there."""
import importlib.util

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax.experimental import topologies
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import operands as operands_lib


@pytest.mark.slow
@absltest.skipIf(importlib.util.find_spec('libtpu') is None,
                 'libtpu is not installed (extra tpu_plan)')
class AbsentTpuTest(parameterized.TestCase):

  @parameterized.parameters(
      ('v5e:2x2', (5, 16, 16), (5, 8, 8), 72, 0),
      ('v5p:2x2x1', (5, 1, 560), (1, 1, 560), 88, 0),
      ('v6e:2x2', (5, 1, 448), (1, 1, 448), 64, 64),
      # Lanes of all heads that are no whole tiles: parts of windows that eight
      # and two devices share, and heads cut over two.
      ('v5e:2x2', (8, 5, 56), (8, 1, 56), 112, 64, 2),
      ('v5e:2x2', (2, 5, 56), (2, 5, 56), 88, 0, 8),
      ('v5e:2x2', (5, 16, 16), (1, 16, 16), 72, 0, 8),
  )
  def test_both_passes_compile(self, place, grid, window, width, text_length,
                               heads=16):
    devices = topologies.get_topology_desc(place, platform='tpu').devices[:1]
    sharding = NamedSharding(jax.sharding.Mesh(np.array(devices), 'x'), P())

    def shape(*dims, dtype=jnp.bfloat16):
      return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)

    rows, length = 2, int(np.prod(window))
    tokens = shape(rows, *grid, heads, width)
    scale = shape(width, dtype=jnp.float32)
    text = (shape(rows, 1, text_length, heads, width) if text_length else None)
    operands = operands_lib.Operands(
        tokens, tokens, tokens, scale, scale,
        bias=(None if text_length
              else shape(heads, length, length, dtype=jnp.float32)),
        text_key=text, text_value=text)
    mask = (shape(rows, 1, text_length, dtype=jnp.bool) if text_length
            else None)

    def loss(operands, mask):
      context = fused_attention.attend(
          operands._replace(text_mask=mask), window, 'fused_tpu')
      return jnp.sum(jnp.square(context.astype(jnp.float32)))

    compiled = jax.jit(jax.grad(loss)).lower(operands, mask).compile()
    self.assertEqual(compiled.as_text().count('tpu_custom_call'), 2)


if __name__ == '__main__':
  absltest.main()
