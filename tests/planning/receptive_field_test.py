"""Receptive fields, by hand and against gradients."""
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.planning import receptive_field as receptive_field_lib
from walt_jax.tokenizer import autoencoder as autoencoder_lib


def tiny(**fields):
  return autoencoder_lib.Autoencoder(**dict(
      base_channels=4, channel_multipliers=(1, 1), time_downsample=(True,),
      blocks_per_level=1, middle_blocks=0, latent_channels=2,
      norm='position', conv_form='stacked') | fields)


def extent(touched: jax.Array) -> tuple[int, ...]:
  """Frames, rows and columns of the box around the true entries."""
  axes = np.nonzero(np.asarray(touched))
  return tuple(int(np.ptp(axis)) + 1 for axis in axes)


class ReceptiveFieldTest(parameterized.TestCase):

  def test_paper_network_by_hand(self):
    field = receptive_field_lib.receptive_field(autoencoder_lib.Autoencoder())
    # Rows: stem, 4 levels of 8 convolutions at 1, 2, 4, 8 pixels a cell, three
    # strided ones, 8 in the middle: 1 + 2 (1 + 8 + 1 + 2 (8 + 1) + 4 (8 + 1)
    # + 8 (8 + 8)). Frames are halved at the two last levels.
    self.assertEqual(field.encoder[1:], (385, 385))
    self.assertEqual(
        field.encoder[0],
        1 + 2 * (1 + 8 + 1 + (8 + 1) + 2 * (8 + 1) + 4 * (8 + 8)))

  def test_without_resampling(self):
    field = receptive_field_lib.receptive_field(tiny(
        channel_multipliers=(1,), time_downsample=(), stem_patch=(4, 8, 8)))
    # Stem and one block: 3 convolutions, so 7 cells of 4 x 8 x 8 pixels.
    self.assertEqual(field.encoder, (28, 56, 56))
    # Inputs, one block and head: 4 convolutions.
    self.assertEqual(field.decoder, (9, 9, 9))

  @parameterized.named_parameters(
      ('halved', dict(middle_blocks=1)),
      ('stem', dict(stem_patch=(2, 2, 2), kernel_size=(1, 3, 3),
                    stem_kernel=(3, 1, 1))))
  def test_gradients_reach_so_far(self, fields):
    module = tiny(**fields)
    field = receptive_field_lib.receptive_field(module)
    # Room for both fields between the borders.
    t, h, w = (
        max(-(-e // f), d) + 1 for e, d, f in zip(
            field.encoder, field.decoder, (module.f_t, *[module.f_s] * 2),
            strict=True))
    clip = (1, 1 + module.f_t * t, module.f_s * h, module.f_s * w, 3)
    shapes = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros(clip))['params']
    rng = np.random.default_rng(0)  # Nothing is zero at the start.
    random = lambda shape: rng.normal(size=shape).astype(np.float32)
    params = jax.tree.map(lambda x: random(x.shape), shapes)

    @functools.partial(jax.jit, static_argnames='method')
    def touched(x, position, method):
      def apply(x):
        y = module.apply({'params': params}, x, method=method)
        y = y.mean if method == 'encode' else y
        return jax.lax.dynamic_index_in_dim(jax.lax.dynamic_index_in_dim(
            jax.lax.dynamic_index_in_dim(y[0], position[0], 0, False),
            position[1], 0, False), position[2], 0, False).sum()
      return (jax.grad(apply)(x)[0] != 0).any(-1)

    self.assertEqual(field.encoder, extent(touched(
        random(clip), np.array([t, h // 2, w // 2]), 'encode')))
    latents = random(module.latent_shape(clip))
    last = np.array([clip[1] - 1, clip[2] // 2, clip[3] // 2])
    extents = [extent(touched(latents, last - offset, 'decode'))
               for offset in range(module.f_s)]
    self.assertEqual(field.decoder, tuple(np.max(extents, axis=0)))


if __name__ == '__main__':
  absltest.main()
