import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import conditions
from walt_jax.core import types
from walt_jax.diffusion import loss
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction
from walt_jax.diffusion import schedules

B, SHAPE = 8, (3, 2, 2, 2)
NULL = 7
SCHEDULE = schedules.linear()


def run(conditioning=None, key=None, latents=None, params=0.5,
        schedule=SCHEDULE, kind='v', network=None, **options):
  """The loss, its parts and the network's inputs, call by call."""
  options = loss.LossOptions(**{'self_condition_probability': 0.0, **options})

  @jax.jit
  def call(params, latents, conditioning, key):
    calls = []

    def recorder(params, x_t, timestep, conditioning):
      calls.append((x_t, timestep, conditioning))
      if network is not None:
        return network(params, x_t, timestep, conditioning)
      return params * x_t

    value, parts = loss.diffusion_loss(
        recorder, params, latents, conditioning, key, schedule=schedule,
        prediction=prediction.Prediction(kind), options=options)
    return value, parts, calls

  return call(params, make_latents() if latents is None else latents,
              conditioning or types.Conditioning(),
              jax.random.key(0) if key is None else key)


@functools.cache
def make_latents(num=B):
  return jax.random.normal(jax.random.key(9), (num, *SHAPE))


class LossTest(parameterized.TestCase):

  def test_perfect_network_has_no_loss(self):
    latents = make_latents()
    network = lambda params, x_t, timestep, conditioning: (
        _perfect_v(x_t, latents, timestep))
    value, _, _ = run(network=network)
    self.assertLess(float(value), 1e-6)

  def test_parts_average_to_the_loss(self):
    value, parts, calls = run()
    self.assertEqual(parts.loss.shape, (B, 1))
    np.testing.assert_allclose(parts.loss.mean(), value, rtol=1e-6)
    np.testing.assert_array_equal(parts.timestep, calls[0][1])
    step = np.asarray(parts.timestep) * 1000
    np.testing.assert_allclose(step, np.round(step), atol=1e-3)

  def test_a_rows_draws_do_not_depend_on_its_batch(self):
    keys = noise.row_keys(jax.random.key(0), B)
    _, whole, _ = run()
    _, part, _ = run(key=keys[2:5], latents=make_latents()[2:5])
    np.testing.assert_array_equal(part.timestep, whole.timestep[2:5])
    np.testing.assert_allclose(part.loss, whole.loss[2:5], rtol=1e-5)

  def test_every_image_has_its_own_timestep_and_loss(self):
    is_image = jnp.arange(B) % 2 == 0
    _, parts, _ = run(types.Conditioning(is_image=is_image))
    self.assertEqual(parts.timestep.shape, (B, SHAPE[0]))
    self.assertEqual(parts.loss.shape, (B, SHAPE[0]))
    spread = np.ptp(np.asarray(parts.timestep), axis=1)
    self.assertTrue(np.all(spread[::2] > 0))
    self.assertTrue(np.all(spread[1::2] == 0))

  def test_timesteps_cover_the_steps_evenly(self):
    _, parts, _ = run(latents=make_latents(20_000))
    timestep = parts.timestep
    step = np.round(np.asarray(timestep) * 1000).astype(int)
    self.assertEqual((step.min(), step.max()), (1, 1000))
    counts, _ = np.histogram(step, 10, (0.5, 1000.5))
    np.testing.assert_allclose(counts, 2000, atol=200)

  def test_self_conditioning_gives_an_x_0_estimate_to_a_part(self):
    latents = make_latents(400)
    _, _, calls = run(latents=latents, self_condition_probability=0.7)
    (_, _, first), (x_t, timestep, second) = calls
    self.assertIsNone(first.self_cond)
    alpha, sigma = SCHEDULE.alpha_sigma(timestep[..., None, None, None])
    expected = alpha * x_t - sigma * 0.5 * x_t
    given = np.asarray(jnp.abs(second.self_cond).max((1, 2, 3, 4)) > 0)
    np.testing.assert_allclose(
        second.self_cond[given], expected[given], atol=1e-5)
    self.assertAlmostEqual(given.mean(), 0.7, delta=0.08)

  def test_first_pass_sends_no_gradient(self):
    def network(params, x_t, timestep, conditioning):
      del timestep
      if conditioning.self_cond is None:
        return params['first'] * x_t
      return params['second'] * x_t + conditioning.self_cond

    grads = jax.grad(lambda p: run(
        params=p, network=network, self_condition_probability=1.0)[0])(
            dict(first=jnp.asarray(0.5), second=jnp.asarray(0.5)))
    self.assertEqual(float(grads['first']), 0)
    self.assertNotEqual(float(grads['second']), 0)

  def test_frames_are_given_to_a_part_of_the_videos(self):
    latents = make_latents(400)
    is_image = jnp.arange(400) < 100
    _, _, calls = run(
        types.Conditioning(is_image=is_image), latents=latents,
        frame_condition_probability=0.5, frame_condition_lengths=(1, 2))
    conditioning = calls[0][2]
    mask = np.asarray(conditioning.frame_mask)
    self.assertEqual(mask[:100].sum(), 0)
    lengths = mask[100:].sum(1)
    self.assertAlmostEqual((lengths == 1).mean(), 0.25, delta=0.08)
    self.assertAlmostEqual((lengths == 2).mean(), 0.25, delta=0.08)
    self.assertTrue(np.all(np.diff(mask, axis=1) <= 0))
    np.testing.assert_array_equal(
        conditioning.frame_cond, mask[..., None, None, None] * latents)

  def test_giving_every_frame_is_refused(self):
    with self.assertRaisesRegex(ValueError, '3 of 3'):
      run(frame_condition_probability=0.5, frame_condition_lengths=(3,))

  def test_conditions_are_dropped_independently(self):
    num = 1000
    drop = conditions.DropProbabilities(
        label=0.3, text=0.2, frames=0.1)
    _, _, calls = run(
        types.Conditioning(
            label=jnp.zeros((num, 1), jnp.int32),
            text=jnp.ones((num, 1, 2, 1))),
        latents=make_latents(num), drop=drop, null_label=NULL,
        frame_condition_probability=1.0, frame_condition_lengths=(1,))
    conditioning = calls[0][2]
    label = np.asarray(conditioning.label[:, 0] == NULL)
    text = ~np.asarray(conditioning.text_mask).any((1, 2))
    frames = np.asarray(conditioning.frame_mask[:, 0] == 0)
    for dropped, expected in ((label, 0.3), (text, 0.2), (frames, 0.1)):
      self.assertAlmostEqual(dropped.mean(), expected, delta=0.05)
    self.assertAlmostEqual((label & text).mean(), 0.06, delta=0.03)

  def test_low_resolution_is_noised_up_to_the_greatest_level(self):
    low_res = jax.random.normal(jax.random.key(4), (400, 3, 1, 1, 2))
    _, _, calls = run(
        types.Conditioning(low_res=low_res), latents=make_latents(400),
        max_low_res_level=0.3)
    conditioning = calls[0][2]
    level = np.asarray(conditioning.low_res_level)
    self.assertEqual(level.shape, (400, 1))
    self.assertAlmostEqual(level.max(), 0.3, delta=0.01)
    self.assertLess(level.min(), 0.01)
    alpha, sigma = SCHEDULE.alpha_sigma(level[..., None, None, None])
    eps = (conditioning.low_res - alpha * low_res) / sigma
    self.assertAlmostEqual(float(eps.mean()), 0, delta=0.1)
    self.assertAlmostEqual(float(eps.std()), 1, delta=0.1)

  def test_min_snr_weights(self):
    _, plain, _ = run()
    _, capped, _ = run(weighting='min_snr')
    gamma = SCHEDULE.gamma(plain.timestep)
    expected = plain.mse * jnp.minimum(gamma, 5 * (1 - gamma))
    np.testing.assert_allclose(capped.loss, expected, rtol=1e-3)
    np.testing.assert_array_equal(capped.mse, plain.mse)

  def test_eps_with_zero_terminal_snr_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'zero terminal SNR'):
      run(kind='eps')
    run(kind='eps', schedule=schedules.linear(zero_terminal_snr=False))

  @parameterized.parameters(
      dict(self_condition_probability=1.5), dict(max_low_res_level=-0.1),
      dict(weighting='p2'),
      dict(frame_condition_probability=0.5, frame_condition_lengths=()))
  def test_wrong_options_are_refused(self, **options):
    with self.assertRaises(ValueError):
      loss.LossOptions(**options)


def _perfect_v(x_t, latents, timestep):
  alpha, sigma = SCHEDULE.alpha_sigma(timestep[..., None, None, None])
  eps = (x_t - alpha * latents) / sigma
  return alpha * eps - sigma * latents


if __name__ == '__main__':
  absltest.main()
