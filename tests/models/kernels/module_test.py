"""Modules whose attention is a kernel against the same in plain form."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models import cross_attention
from walt_jax.models import tile_order
from walt_jax.models import window_attention

# Compiling is what these tests spend their time on.
QUICK = {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True}
MODULES = {'window': window_attention.WindowAttention,
           'cross': cross_attention.CrossAttention}
WIDTH = 128


class ModuleTest(parameterized.TestCase):

  @parameterized.parameters(
      ('window', (1, 4, 4)), ('window', (2, 2, 8)), ('window', (2, 4, 4)),
      ('cross', (1, 4, 4)))
  def test_kernels_change_nothing(self, kind, window):
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)
    x = normal(2, 2, 4, 8, WIDTH)
    inputs = (np.array([True, False]),)
    if kind == 'cross':
      inputs = (normal(2, 2, 8, WIDTH), rng.random((2, 2, 8)) < 0.6)

    def make(form):
      return MODULES[kind](WIDTH, num_heads=2, window=window, form=form)

    shapes = jax.eval_shape(make('xla').init, jax.random.key(0), x, *inputs)
    params = jax.tree.map(lambda leaf: normal(*leaf.shape) / 8, shapes)
    weights = normal(*x.shape)

    def run(form):
      def loss(params, x):
        found = make(form).apply(params, x, *inputs).values
        return jnp.sum(found * weights)
      return jax.jit(jax.value_and_grad(loss, (0, 1)),
                     compiler_options=QUICK)(params, x)

    expected, found = run('xla'), run('fused_tpu_interpreted')
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, one), other in zip(paths, jax.tree.leaves(found), strict=True):
      self.assertLess(np.abs(one - other).max(), 2e-5 * np.abs(one).max(),
                      jax.tree_util.keystr(path))


  def test_tokens_may_come_tile_by_tile(self):
    rng = np.random.default_rng(0)
    order = tile_order.TileOrder((2, 4, 8), (2, 4))
    x = rng.standard_normal((2, *order.grid, WIDTH), np.float32)
    for window in ((1, 4, 8), (2, 2, 4)):
      with self.subTest(window=window):
        raster = window_attention.WindowAttention(
            WIDTH, num_heads=2, window=window)
        tiles = window_attention.WindowAttention(
            WIDTH, num_heads=2, window=window, order=order,
            form='fused_tpu_interpreted')
        shapes = jax.eval_shape(raster.init, jax.random.key(0), x)
        params = jax.tree.map(lambda leaf: rng.standard_normal(
            leaf.shape, np.float32) / 8, shapes)
        expected = jax.jit(
            lambda params, x, raster=raster: raster.apply(params, x).values,
            compiler_options=QUICK)(params, x)
        found = jax.jit(
            lambda params, x, tiles=tiles: order.undo(
                tiles.apply(params, order.apply(x)).values),
            compiler_options=QUICK)(params, x)
        self.assertLess(np.abs(found - expected).max(),
                        2e-5 * np.abs(expected).max())


if __name__ == '__main__':
  absltest.main()
