from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from walt_jax.core import types
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models import interpolate

WIDTH, HEADS, PAIRS, CHANNELS = 8, 2, 1, 2
QUICK = {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True}


def model(columns, frames=3, **fields):
  return denoiser_lib.Denoiser(**dict(
      width=WIDTH, depth=2 * PAIRS, num_heads=HEADS, mlp_width=WIDTH, patch=1,
      spatial_window=(1, 4, columns),
      spacetime_window=(frames, 2, columns // 2)) | fields)


def shapes_of(denoiser, columns, frames=3):
  return jax.eval_shape(
      denoiser.init, jax.random.key(0),
      np.zeros((1, frames, 4, columns, CHANNELS)), np.ones((1, 1)),
      types.Conditioning())['params']


def random_params(denoiser, columns, frames=3):
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda leaf: rng.standard_normal(leaf.shape, np.float32) / 2,
      shapes_of(denoiser, columns, frames))


def tables(space=(4, 4), time=3, window=(3, 2, 2)):
  """Shapes of the parameters that depend on grid and window, and one other."""
  struct = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  offsets = [2 * extent - 1 for extent in window]
  return {
      'position': {'space': struct(*space, WIDTH), 'time': struct(time, WIDTH)},
      'layers': {'spacetime': {'attention': {
          'relative_bias': struct(PAIRS, *offsets, HEADS)}}},
      'head': {'kernel': struct(WIDTH, 3)}}


def filled(shapes, **values):
  """Arrays of `shapes`, some by name, the others random."""
  rng = np.random.default_rng(1)
  return jax.tree_util.tree_map_with_path(
      lambda path, leaf: np.broadcast_to(
          values.get(path[-1].key, rng.normal(size=leaf.shape)),
          leaf.shape).astype(np.float32), shapes)


def bias_of(params):
  return np.asarray(params['layers']['spacetime']['attention']['relative_bias'])


class FitPositionsTest(parameterized.TestCase):

  def test_same_grid_changes_nothing(self):
    params = filled(tables())
    jax.tree.map(np.testing.assert_array_equal,
                 interpolate.fit_positions(params, tables()), params)

  def test_shapes_and_everything_else(self):
    params = filled(tables())
    wide = tables((4, 7), 5, (5, 2, 3))
    fitted = interpolate.fit_positions(params, wide)
    self.assertEqual(jax.tree.map(lambda leaf: leaf.shape, fitted),
                     jax.tree.map(lambda leaf: leaf.shape, wide))
    np.testing.assert_array_equal(
        fitted['head']['kernel'], params['head']['kernel'])

  def test_a_slope_over_the_frame_stays_that_slope(self):
    """Cells keep their distance from the frame's edges, in frames."""
    centres = lambda count: ((np.arange(count) + 0.5) / count)[None, :, None]
    params = filled(tables((4, 4)), space=centres(4))
    fitted = interpolate.fit_positions(params, tables((4, 7)))
    # Beyond the centres of the outermost old cells there is nothing to know.
    np.testing.assert_allclose(
        fitted['position']['space'][:, :, 0],
        np.broadcast_to(np.clip(centres(7)[..., 0], 1 / 8, 7 / 8), (4, 7)),
        atol=1e-6)

  def test_relative_offsets_scale_as_distances_do(self):
    """A bias that is linear in the offset, in parts of the frame."""
    slope = np.arange(-7, 8).reshape(15, 1) / 16
    params = filled(tables(window=(3, 2, 8)), relative_bias=slope)
    bias = bias_of(interpolate.fit_positions(
        params, tables(window=(3, 2, 14))))
    expected = np.clip(np.arange(-13, 14) / 28, -7 / 16, 7 / 16)
    np.testing.assert_allclose(bias[0, 0, 0, :, 0], expected, atol=1e-6)

  @parameterized.parameters((5, 2, 3), (1, 1, 5), (2, 4, 1))
  def test_offset_zero_stays_offset_zero(self, *window):
    params = filled(tables())
    bias = bias_of(params)
    fitted = bias_of(interpolate.fit_positions(params, tables(window=window)))
    middle = tuple(extent - 1 for extent in window)
    np.testing.assert_allclose(
        fitted[(slice(None), *middle)], bias[:, 2, 1, 1], atol=1e-6)

  def test_mirrored_tables_stay_mirrored(self):
    params = filled(tables(window=(3, 4, 4)))
    flip = lambda tree: jax.tree.map(
        lambda leaf: leaf[..., ::-1, :] if leaf.ndim == 5 else leaf, tree)
    target = tables(window=(3, 4, 7))
    np.testing.assert_allclose(
        bias_of(interpolate.fit_positions(flip(params), target)),
        bias_of(flip(interpolate.fit_positions(params, target))), atol=1e-6)

  @parameterized.parameters(1, 2, 5, 9)
  def test_first_and_last_frame_keep_their_embedding(self, frames):
    params = filled(tables())
    old = params['position']['time']
    new = interpolate.fit_positions(
        params, tables(time=frames))['position']['time']
    np.testing.assert_allclose(new[0], old[0], atol=1e-6)
    if frames > 1:
      np.testing.assert_allclose(new[-1], old[-1], atol=1e-6)

  def test_other_differences_are_refused(self):
    params = filled(tables())
    more = tables() | {'extra': jax.ShapeDtypeStruct((1,), jnp.float32)}
    with self.assertRaisesRegex(ValueError, 'new denoiser.*extra'):
      interpolate.fit_positions(params, more)
    with self.assertRaisesRegex(ValueError, 'trained denoiser.*head/kernel'):
      interpolate.fit_positions(
          params, {k: v for k, v in tables().items() if k != 'head'})
    wider = tables()
    wider['head']['kernel'] = jax.ShapeDtypeStruct((WIDTH, 12), jnp.float32)
    with self.assertRaisesRegex(ValueError, r'head/kernel.*\(8, 3\).*12'):
      interpolate.fit_positions(params, wider)
    heads = tables()
    heads['layers']['spacetime']['attention']['relative_bias'] = (
        jax.ShapeDtypeStruct((PAIRS, 5, 3, 5, 4), jnp.float32))
    with self.assertRaisesRegex(ValueError, 'relative_bias'):
      interpolate.fit_positions(params, heads)


class DenoiserTest(absltest.TestCase):

  @pytest.mark.slow
  def test_stretched_columns_give_the_stretched_result(self):
    """Exactly, where the tables are the same in all columns."""
    square, wide = model(4), model(8)
    params = random_params(square, 4)
    level = lambda leaf, axis: np.broadcast_to(
        leaf.mean(axis, keepdims=True), leaf.shape)
    params['position']['space'] = level(params['position']['space'], 1)
    for layer in params['layers'].values():
      layer['attention']['relative_bias'] = level(
          layer['attention']['relative_bias'], -2)
    fitted = interpolate.fit_positions(params, shapes_of(wide, 8))
    x = np.random.default_rng(2).standard_normal(
        (1, 3, 4, 4, CHANNELS), np.float32)

    def apply(denoiser, params, x):
      call = jax.jit(denoiser.apply, compiler_options=QUICK)
      return np.asarray(call({'params': params}, x, np.full((1, 1), 0.5),
                             types.Conditioning()))

    twice = lambda y: np.repeat(y, 2, axis=3)
    out = apply(square, params, x)
    self.assertGreater(float(out.std()), 0.1)
    np.testing.assert_allclose(
        apply(wide, fitted, twice(x)), twice(out), atol=1e-4)


if __name__ == '__main__':
  absltest.main()
