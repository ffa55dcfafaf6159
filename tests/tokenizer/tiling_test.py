"""Tests of tiles over frames."""
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import tiling

LEVELS = autoencoder.Autoencoder(
    base_channels=4, channel_multipliers=(1, 2), time_downsample=(True,),
    blocks_per_level=1, middle_blocks=0, latent_channels=2, norm='position',
    conv_form='stacked')
QUICK = autoencoder.Autoencoder(
    base_channels=8, channel_multipliers=(1,), time_downsample=(),
    blocks_per_level=1, middle_blocks=0, latent_channels=2, norm='position',
    adaptive_decoder=False, stem_patch=(4, 4, 4), stem_kernel=(1, 1, 1),
    head_kernel=(1, 1, 1), linear_ends=True, conv_form='stacked')
WIDE = LEVELS.clone(kernel_size=(1, 5, 5))


@functools.cache
def _params(module):
  shapes = jax.eval_shape(module.init, jax.random.key(0),
                          jnp.zeros((1, 5, 8, 8, 3)))['params']
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: rng.normal(
      x.ndim == 1, 0.3, x.shape).astype(np.float32), shapes)


@functools.cache
def _apply(module, method):
  def apply(params, x):
    out = module.apply({'params': params}, x, method=method)
    return out.mean if method == 'encode' else out
  return functools.partial(jax.jit(apply), _params(module))


def _input(module, method, cells):
  shape = ((1, 1, cells * module.f_s, cells * module.f_s, 3)
           if method == 'encode' else (1, 1, cells, cells, 2))
  return np.random.default_rng(1).normal(size=shape).astype(np.float32)


class TilingTest(parameterized.TestCase):

  @parameterized.product(module=(LEVELS, QUICK, WIDE),
                         method=('encode', 'decode'))
  def test_exact_tiles_equal_the_whole(self, module, method):
    apply = _apply(module, method)
    x = _input(module, method, cells=20)
    out = tiling.exact(apply, module, method, x, tile=(5, 7))
    np.testing.assert_allclose(out, apply(x), atol=1e-4, rtol=1e-4)

  @parameterized.product(module=(LEVELS, QUICK, WIDE),
                         method=('encode', 'decode'))
  def test_halo_bounds_what_a_cell_depends_on(self, module, method):
    apply, cells = _apply(module, method), 20
    x = _input(module, method, cells)
    cell_in = module.f_s if method == 'encode' else 1
    cell_out = 1 if method == 'encode' else module.f_s
    other = x.copy()
    other[:, :, :, 10 * cell_in:11 * cell_in] += 1.0
    changed = np.abs(apply(x) - apply(other)).max((0, 1, 2, 4)) > 0
    columns = np.flatnonzero(changed) // cell_out
    halo = tiling.halo(module, method)
    self.assertGreaterEqual(columns.min(), 10 - halo)
    self.assertLessEqual(columns.max(), 10 + halo)
    # Nor is it wasteful.
    self.assertLessEqual(halo, max(10 - columns.min(), columns.max() - 10) + 1)

  def test_halo_of_the_paper_decoder(self):
    module = autoencoder.Autoencoder(norm='position')
    self.assertBetween(tiling.halo(module, 'decode'), 15, 40)
    with self.assertRaisesRegex(ValueError, "'group'"):
      tiling.halo(autoencoder.Autoencoder(), 'decode')

  def test_tiles_keep_each_cell_once(self):
    for length, tile, margin in ((20, 5, 3), (7, 16, 2), (17, 4, 30)):
      covered = tiling.tiles(length, tile, margin)
      kept = np.concatenate([np.arange(t.keep_start, t.keep_stop)
                             for t in covered])
      np.testing.assert_array_equal(kept, np.arange(length))
      self.assertLen({t.stop - t.start for t in covered}, 1)

  def test_blending_errs_little_and_less_with_more_overlap(self):
    apply = _apply(QUICK, 'decode')
    x = _input(QUICK, 'decode', cells=20)
    whole = np.asarray(apply(x))
    error = [np.abs(tiling.blend(apply, QUICK, 'decode', x, (5, 5), overlap)
                    - whole).mean() for overlap in (1, 2, 4)]
    self.assertLess(error[1], error[0])
    self.assertLess(error[2], error[1])
    # Constants pass through: the weights sum to one everywhere.
    same = tiling.blend(lambda z: np.ones((1, 1, 4 * z.shape[2],
                                           4 * z.shape[3], 3)),
                        QUICK, 'decode', x, (5, 7), 2)
    np.testing.assert_allclose(same, 1.0, rtol=1e-6)


if __name__ == '__main__':
  absltest.main()
