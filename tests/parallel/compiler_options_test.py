"""Which options programs are compiled with, and what they do on a TPU."""
import collections
import importlib.util

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from walt_jax.parallel import compiler_options
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import programs
from walt_jax.planning import collectives
from walt_jax.planning import topology


class OptionsTest(parameterized.TestCase):

  def test_an_unknown_platform_is_an_error(self):
    with self.assertRaises(KeyError):
      compiler_options.of('rocm')

  def test_the_own_platform_takes_its_options(self):
    program = programs.Program(lambda x: x + 1)
    np.testing.assert_array_equal(program(np.arange(3)), [1, 2, 3])
    seconds = program.compile_seconds
    self.assertGreater(seconds, 0)
    program(np.arange(4, 7))
    self.assertEqual(program.compile_seconds, seconds)

  def test_every_option_is_explained(self):
    for options in compiler_options.OPTIONS.values():
      for option in options:
        self.assertTrue(option.reason and option.effect, option.name)

  def test_words(self):
    self.assertEqual(compiler_options.words('cpu'), 'none')
    self.assertIn('windowed_einsum_mib=1000000',
                  compiler_options.words('tpu'))


@absltest.skipIf(importlib.util.find_spec('libtpu') is None,
                 'libtpu is not installed (extra tpu_plan)')
class ShardedProductsTest(parameterized.TestCase):
  """A product with a weight cut over `fsdp` gathers the weight first."""

  @parameterized.parameters('columns', 'rows', 'backward')
  def test_no_loop_of_partial_products(self, kind):
    found = _collectives(kind, compiler_options.of('tpu'))
    self.assertNotIn('collective-permute', found)
    self.assertIn('all-gather', found)

  def test_without_options_it_is_one(self):
    self.assertIn('collective-permute', _collectives('columns', {}))

  def test_an_option_of_no_compiler_is_an_error(self):
    with self.assertRaisesRegex(Exception, 'No such compile option'):
      _collectives('columns', {'xla_no_such_option': '1'})


def _collectives(kind: str, options) -> collections.Counter[str]:
  """Kinds of collectives of a small product compiled for four v5e chips."""
  mesh = mesh_lib.make_mesh(
      1, -1, 1, devices=topology.get_slice('v5e:2x2').devices)
  rows = NamedSharding(mesh, P('fsdp'))
  weights = NamedSharding(mesh, P(None, 'fsdp') if kind == 'rows' else
                          P('fsdp'))
  x = jax.ShapeDtypeStruct((65536, 512), jnp.bfloat16, sharding=rows)
  w = jax.ShapeDtypeStruct((512, 1024), jnp.bfloat16, sharding=weights)

  def forward(x, w):
    return x @ w

  def backward(x, w):
    loss = lambda x, w: jnp.square(forward(x, w)).sum()
    return jax.grad(loss, argnums=(0, 1))(x, w)

  jitted = jax.jit(
      backward if kind == 'backward' else forward,
      out_shardings=(rows, weights) if kind == 'backward' else rows,
      compiler_options=options)
  compiled = jitted.lower(x, w).compile(
      compiler_options={'exec_time_optimization_effort': -1.0})
  return collections.Counter(
      one.kind for one in collectives.collectives(compiled.as_text()))


if __name__ == '__main__':
  absltest.main()
