"""An image first, then the clip that begins with it."""
import dataclasses
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from walt_jax.core import types
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import network
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction
from walt_jax.diffusion import samplers
from walt_jax.diffusion import schedules
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.sampling import factorized
from walt_jax.sampling import stage_sampler

B, T, SIZE, C = 4, 3, 4, 2
SHAPE = (T, SIZE, SIZE, C)
GUIDED = guidance_lib.Guidance(label=2.0)
OPTIONS = samplers.SamplerOptions(num_steps=3, factorized=True)


@functools.cache
def sampler() -> tuple[stage_sampler.StageSampler, dict]:
  """A small denoiser with random parameters and no zeros among them."""
  model = denoiser_lib.Denoiser(
      width=16, depth=2, num_heads=2, mlp_width=32, patch=1,
      spatial_window=(1, 4, 4), spacetime_window=(T, 2, 2), num_classes=5)
  random = np.random.default_rng(0)
  params = jax.tree.map(
      lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32),
      jax.eval_shape(
          model.init, jax.random.key(0), np.zeros((1, *SHAPE)),
          np.ones((1, 1)), types.Conditioning())['params'])
  return stage_sampler.StageSampler(
      model, schedules.make_schedule('linear', True),
      prediction.Prediction('v'), SHAPE, self_condition=True), params


@functools.cache
def program(options: samplers.SamplerOptions):
  stage, params = sampler()
  draw = jax.jit(stage.make(options, GUIDED))
  return lambda keys, conditioning: np.asarray(
      draw(params, keys, conditioning, jnp.float32(0)))


def given_frames(rows, seed=5) -> types.Conditioning:
  """Labels, and one latent frame given in some rows."""
  mask = np.zeros((B, T), np.float32)
  mask[rows, 0] = 1
  frames = np.random.default_rng(seed).standard_normal((B, *SHAPE), np.float32)
  return types.Conditioning(
      label=LABELS, frame_mask=jnp.asarray(mask),
      frame_cond=jnp.asarray(frames * mask[..., None, None, None]))


KEYS = noise.row_keys(jax.random.key(3), B)
LABELS = jnp.asarray([[0], [1], [2], [3]])


class FactorizedTest(parameterized.TestCase):

  def test_the_clip_goes_on_from_the_image(self):
    """What is drawn is the clip given its own first frame."""
    drawn = program(OPTIONS)(KEYS, types.Conditioning(label=LABELS))
    mask = np.zeros((B, T), np.float32)
    mask[:, 0] = 1
    again = program(dataclasses.replace(OPTIONS, factorized=False))(
        KEYS, types.Conditioning(
            label=LABELS, frame_mask=jnp.asarray(mask),
            frame_cond=jnp.asarray(drawn * mask[..., None, None, None])))
    np.testing.assert_allclose(again, drawn, atol=1e-5)

  def test_the_image_is_the_denoisers_own_image(self):
    """A row of images, sampled as training builds it, shows the same one."""
    stage, params = sampler()
    drawn = program(OPTIONS)(KEYS, types.Conditioning(label=LABELS))
    image_keys = noise.fold(KEYS, stage_sampler._FIRST_FRAME)

    def denoise(x, timestep, conditioning):
      # One image a row; what stands behind it must not matter.
      wide = jnp.concatenate([x, jnp.full_like(x, 7.0).repeat(T - 1, 1)], 1)
      beside = lambda value: None if value is None else jnp.concatenate(
          [value, jnp.zeros_like(value).repeat(T - 1, 1)], 1)
      seen = dataclasses.replace(
          jax.tree.map(beside, conditioning), is_image=jnp.ones(len(x), bool))
      time = jnp.concatenate(
          [timestep, jnp.full((len(x), T - 1), 0.5)], axis=1)
      return stage.denoiser.apply({'params': params}, wide, time, seen)[:, :1]

    images = jax.jit(lambda: samplers.sample(
        network.of_function(denoise), image_keys, (1, *SHAPE[1:]),
        schedule=stage.schedule,
        conditioning=types.Conditioning(label=LABELS),
        options=samplers.SamplerOptions(num_steps=3),
        guidance=dataclasses.replace(GUIDED, null_label=5),
        self_condition=True))()
    np.testing.assert_allclose(drawn[:, :1], images, atol=1e-4)

  @parameterized.parameters(1, 2, 3)
  def test_a_sample_does_not_depend_on_its_batch(self, rows):
    """Images share rows of three: neither with whom nor where matters."""
    draw = program(OPTIONS)
    whole = draw(KEYS, types.Conditioning(label=LABELS))
    part = draw(KEYS[-rows:], types.Conditioning(label=LABELS[-rows:]))
    np.testing.assert_allclose(part, whole[-rows:], atol=1e-5)

  @parameterized.parameters(([0, 2],), ([0, 1, 2, 3],))
  @pytest.mark.slow
  def test_a_given_frame_stays(self, rows):
    """Rows that are given a frame continue from it, the others as without."""
    conditioning = given_frames(rows)
    drawn = program(OPTIONS)(KEYS, conditioning)
    alone = program(OPTIONS)(KEYS, types.Conditioning(label=LABELS))
    joint = program(dataclasses.replace(OPTIONS, factorized=False))(
        KEYS, conditioning)
    others = [row for row in range(B) if row not in rows]
    np.testing.assert_allclose(drawn[rows], joint[rows], atol=1e-5)
    np.testing.assert_allclose(drawn[others], alone[others], atol=1e-5)
    np.testing.assert_array_equal(
        drawn[rows, 0], conditioning.frame_cond[np.asarray(rows), 0])

  def test_draws_no_image_where_every_row_goes_on(self):
    """Later windows of a long clip: nothing is to begin."""
    def refuse(conditioning):
      jax.debug.callback(self.fail, 'An image was drawn.')
      return jnp.zeros((B, 1, *SHAPE[1:]))

    begun = jax.jit(lambda given: factorized.begin_with_image(
        refuse, given, T))(given_frames([0, 1, 2, 3]))
    jax.effects_barrier()
    np.testing.assert_array_equal(begun.frame_mask[:, 0], np.ones(B))


if __name__ == '__main__':
  absltest.main()
