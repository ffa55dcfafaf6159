from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types
from walt_jax.models import denoiser
from walt_jax.models import tile_order
from walt_jax.models import windows
from walt_jax.models.kernels import fused_attention

# Compiling is what these tests spend their time on.
QUICK = {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True}
GRID, TILE, HEADS = (3, 4, 6), (2, 3), 2


def tokens(*grid):
  return np.arange(2 * np.prod(grid)).reshape(2, *grid, 1)


class TileOrderTest(parameterized.TestCase):

  def test_tiles_follow_each_other(self):
    found = tile_order.TileOrder(GRID, TILE).apply(tokens(*GRID))
    self.assertEqual(found.shape, (2, 3, 1, 24, 1))
    # The first frame's first two tiles.
    np.testing.assert_array_equal(
        np.ravel(found)[:12], [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11])

  def test_undo_is_the_inverse(self):
    x = tokens(*GRID)
    order = tile_order.TileOrder(GRID, TILE)
    np.testing.assert_array_equal(order.undo(order.apply(x)), x)

  @parameterized.parameters((3, 2, 3), (1, 4, 6), (3, 4, 6), (1, 2, 3))
  def test_windows_hold_the_same_tokens(self, *window):
    x = tokens(*GRID)
    order = tile_order.TileOrder(GRID, TILE)
    held = lambda x, window: np.sort(
        np.asarray(windows.partition_windows(x, window))[..., 0], -1)
    np.testing.assert_array_equal(
        held(order.apply(x), order.extent(window)), held(x, window))

  @parameterized.parameters(
      (((1, 4, 6), (3, 2, 3)), TILE), (((3, 4, 6), (1, 4, 6)), (4, 6)),
      (((1, 4, 3), (3, 2, 3)), None), (((1, 2, 6), (3, 4, 3)), None))
  def test_all_windows_are_the_frame_or_a_tile(self, extents, tile):
    found = tile_order.tile_order(GRID, extents)
    self.assertEqual(found and found.tile, tile)


def looked_up(table, window, tile):
  """The table's entry of every pair, tile by tile, in a loop."""
  rows, columns = tile
  cells = [(t, y + i, x + j) for t in range(window[0])
           for y in range(0, window[1], rows)
           for x in range(0, window[2], columns)
           for i in range(rows) for j in range(columns)]
  offset = lambda query, key: tuple(
      q - k + extent - 1 for q, k, extent in zip(
          query, key, window, strict=True))
  return np.stack([[table[offset(query, key)] for key in cells]
                   for query in cells]).transpose(2, 0, 1)


class RelativeBiasTest(parameterized.TestCase):

  @parameterized.parameters((1, 4, 6), (3, 2, 3), (2, 4, 3), (1, 2, 3))
  def test_equals_a_table_lookup(self, *window):
    rng = np.random.default_rng(0)
    shape = (*(2 * extent - 1 for extent in window), HEADS)
    table = rng.standard_normal(shape, np.float32)
    expected = looked_up(table, window, TILE)
    weights = rng.integers(-4, 5, expected.shape).astype(np.float32)

    def weighed(table):
      bias = tile_order.relative_bias(table, window, TILE)
      return jnp.sum(bias * weights), bias

    gradient, bias = jax.jit(
        jax.grad(weighed, has_aux=True), compiler_options=QUICK)(table)
    np.testing.assert_array_equal(bias, expected)
    # Sums of the weights of all pairs that an entry serves: whole numbers.
    entries = np.arange(table.size // HEADS, dtype=np.int32).reshape(
        *shape[:3], 1)
    served = looked_up(entries, window, TILE)[0]
    np.testing.assert_array_equal(
        np.reshape(gradient, (-1, HEADS)).T,
        [np.bincount(served.ravel(), one.ravel(), table.size // HEADS)
         for one in weights])


class DenoiserTest(absltest.TestCase):

  def test_rows_that_are_whole_tiles_of_memory_stay(self):
    order = lambda form, columns: fused_attention.token_order(
        form, (2, 4, columns), ((1, 4, columns), (2, 2, 4)))
    self.assertEqual(order('fused_tpu', 12).tile, (2, 4))
    self.assertIsNone(order('fused_tpu', 8))
    self.assertIsNone(order('xla', 12))

  # The kernels do not serve heads so narrow: attention is the plain form.
  def test_the_order_of_tokens_changes_nothing(self):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 2, 4, 12, 3), np.float32)
    timestep = rng.random((2, 2), np.float32)
    conditioning = types.Conditioning(
        is_image=np.array([True, False]),
        text=rng.standard_normal((2, 2, 8, 6), np.float32),
        text_mask=rng.random((2, 2, 8)) < 0.6)

    def make(form):
      return denoiser.Denoiser(
          width=16, depth=2, num_heads=2, mlp_width=16, patch=1,
          spatial_window=(1, 4, 12), spacetime_window=(2, 2, 4), text_width=6,
          attention_form=form)

    shapes = jax.eval_shape(
        make('xla').init, jax.random.key(0), x, timestep, conditioning)
    variables = jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape, np.float32) / 8, shapes)
    expected, found = (
        jax.jit(make(form).apply, compiler_options=QUICK)(
            variables, x, timestep, conditioning)
        for form in ('xla', 'fused_tpu_interpreted'))
    np.testing.assert_allclose(
        found, expected, atol=2e-5 * np.abs(expected).max())


if __name__ == '__main__':
  absltest.main()
