"""Samplers against diffusers' trajectories of a fixed analytic model."""
import functools
import pathlib
import sys
import types as types_lib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.diffusion import network
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction
from walt_jax.diffusion import sampler
from walt_jax.diffusion import samplers
from walt_jax.diffusion import schedules

GOLDEN = np.load(pathlib.Path(__file__).parent / 'golden' / 'diffusers.npz')
SHAPE = (3, 4, 4, 2)


def analytic_model(x_t, timestep, conditioning):
  """The function that tests/parity/make_diffusion_golden.py samples from."""
  del conditioning
  time = timestep[..., None, None, None]
  return 0.8 * jnp.tanh(x_t) * jnp.cos(3 * time) - 0.4 * x_t * time


ANALYTIC = network.of_function(analytic_model)


@functools.partial(
    jax.jit, static_argnames=('name', 'zero', 'kind', 'options'))
def trajectory(x, *, name, zero, kind, options):
  return samplers.sample_trajectory(
      ANALYTIC, noise.row_keys(jax.random.key(0), 2), SHAPE,
      schedule=schedules.make_schedule(name, zero_terminal_snr=zero),
      prediction=prediction.Prediction(kind), options=options,
      initial_noise=x)[1]


class ParityTest(parameterized.TestCase):

  @parameterized.parameters(
      *((sampler, steps, name, zero, 'v')
        for name in ('linear', 'cosine') for zero in (False, True)
        for sampler, steps in (('ddim', 1), ('ddim', 10), ('ddim', 50),
                               ('dpmpp_2m', 2), ('dpmpp_2m', 10),
                               ('dpmpp_2m', 20))),
      ('ddim', 10, 'cosine', False, 'eps'),
      ('ddim', 10, 'cosine', False, 'x0'))
  def test_deterministic_trajectory(self, sampler, steps, name, zero, kind):
    options = samplers.SamplerOptions(sampler=sampler, num_steps=steps)
    ours = trajectory(
        GOLDEN['x'], name=name, zero=zero, kind=kind, options=options)
    tag = f'{name}_{"zero" if zero else "plain"}'
    middle = '' if kind == 'v' else f'_{kind}'
    expected = GOLDEN[f'{sampler}{middle}_{steps}/{tag}']
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=1e-5)

  @parameterized.product(
      case=(('ddim', 0.5, 'ddim_half_10'), ('ddpm', 0.0, 'ddpm_10'),
            ('ddim', 1.0, 'ddpm_10')),
      zero=(False, True))
  def test_noisy_trajectory(self, case, zero):
    sampler, eta, golden = case
    tag = f'linear_{"zero" if zero else "plain"}'
    fresh = jnp.asarray(GOLDEN[f'noises/{tag}'])
    options = samplers.SamplerOptions(sampler=sampler, num_steps=10, eta=eta)
    # Feeds diffusers' noise: a step's key is its number.
    with (mock.patch.object(noise, 'fold', lambda keys, number: number),
          mock.patch.object(noise, 'normal',
                            lambda number, shape: fresh[number])):
      ours = samplers.sample_trajectory(
          ANALYTIC, noise.row_keys(jax.random.key(0), 2), SHAPE,
          schedule=schedules.linear(zero), options=options,
          initial_noise=jnp.asarray(GOLDEN['x']))[1]
    np.testing.assert_allclose(
        ours, GOLDEN[f'{golden}/{tag}'], atol=1e-5, rtol=1e-5)


class AveragedEstimates:
  """A sampler of two passes a step, which remembers what it has seen."""

  def __init__(self, path):
    self._path = path

  def rows(self):
    return sampler.steps_of(self._path)

  def init(self, x):
    return sampler.State(x, jnp.zeros_like(x), history=jnp.zeros((), int))

  def step(self, state, row, estimate, noise):
    first = estimate(state.x, row, state.x_0)
    x_0 = (first + estimate(state.x, row, first)) / 2 + 0 * noise()
    return sampler.State(x_0, x_0, state.history + 2)


class OwnSamplerTest(absltest.TestCase):

  def test_a_class_of_the_users_own_takes_the_steps(self):
    own = types_lib.ModuleType('own_sampler_of_this_test')
    own.Averaged = AveragedEstimates
    sys.modules[own.__name__] = own
    self.addCleanup(sys.modules.pop, own.__name__)
    passes = []

    def model(x_t, timestep, conditioning):
      jax.debug.callback(
          lambda t, c: passes.append((float(t[0, 0]), np.asarray(c))),
          timestep, conditioning.self_cond, ordered=True)
      return analytic_model(x_t, timestep, conditioning)

    _, steps = samplers.sample_trajectory(
        network.of_function(model), noise.row_keys(jax.random.key(0), 1),
        SHAPE,
        schedule=schedules.linear(), self_condition=True,
        options=samplers.SamplerOptions(f'{own.__name__}:Averaged', 2))
    jax.effects_barrier()
    np.testing.assert_allclose([time for time, _ in passes],
                               [1, 1, 0.5, 0.5])
    np.testing.assert_array_equal(passes[0][1], 0 * passes[0][1])
    # The second pass sees the estimate of the first one, the next step what
    # the sampler says was its last.
    self.assertGreater(np.abs(passes[1][1]).max(), 0.1)
    np.testing.assert_array_equal(passes[2][1], steps[0])

  def test_a_class_that_is_none_is_refused(self):
    own = types_lib.ModuleType('own_sampler_of_this_test')
    own.Half = absltest.TestCase
    sys.modules[own.__name__] = own
    self.addCleanup(sys.modules.pop, own.__name__)
    with self.assertRaisesRegex(
        errors.UserError, 'lacks init, rows, step; write what .*Sampler'):
      samplers.SamplerOptions(f'{own.__name__}:Half')


class SampleTest(parameterized.TestCase):

  def test_sample_does_not_depend_on_the_batch(self):
    sample = jax.jit(lambda keys: samplers.sample(
        ANALYTIC, keys, SHAPE, schedule=schedules.linear(),
        options=samplers.SamplerOptions(num_steps=4, eta=1.0)))
    keys = noise.row_keys(jax.random.key(3), 3)
    together = sample(keys)
    for row in range(3):
      alone = sample(keys[row:row + 1])
      np.testing.assert_allclose(together[row], alone[0], atol=1e-6)
    self.assertGreater(float(jnp.abs(together[0] - together[1]).max()), 0.1)

  def test_given_frames_are_written_back(self):
    given = jax.random.normal(jax.random.key(1), (2, *SHAPE))
    mask = jnp.asarray([[1., 0., 0.], [0., 0., 0.]])
    conditioning = types.Conditioning(
        frame_mask=mask, frame_cond=mask[..., None, None, None] * given)
    sample = functools.partial(
        samplers.sample, ANALYTIC, noise.row_keys(jax.random.key(0), 2),
        SHAPE, schedule=schedules.linear(),
        options=samplers.SamplerOptions(num_steps=3))
    free, held = sample(), sample(conditioning=conditioning)
    np.testing.assert_array_equal(held[0, 0], given[0, 0])
    np.testing.assert_array_equal(held[0, 1:], free[0, 1:])
    np.testing.assert_array_equal(held[1], free[1])

  def test_self_conditioning_carries_the_last_estimate(self):
    seen = []

    def model(x_t, timestep, conditioning):
      jax.debug.callback(lambda c: seen.append(np.asarray(c)),
                         conditioning.self_cond, ordered=True)
      return analytic_model(x_t, timestep, conditioning)

    schedule = schedules.linear()
    sample = functools.partial(
        samplers.sample_trajectory, keys=noise.row_keys(jax.random.key(0), 1),
        shape=SHAPE, schedule=schedule,
        options=samplers.SamplerOptions(num_steps=3))
    _, steps = sample(network.of_function(model), self_condition=True)
    jax.effects_barrier()
    np.testing.assert_array_equal(seen[0], np.zeros((1, *SHAPE)))
    timestep = 667 / 1000
    alpha, sigma = schedule.alpha_sigma(jnp.asarray(timestep))
    v = analytic_model(steps[0], jnp.full((1, 1), timestep), None)
    np.testing.assert_allclose(
        seen[2], alpha * steps[0] - sigma * v, atol=1e-5)

  def test_clipping_bounds_the_sample(self):
    sample = lambda **options: samplers.sample(
        ANALYTIC, noise.row_keys(jax.random.key(0), 2), SHAPE,
        schedule=schedules.linear(),
        options=samplers.SamplerOptions(num_steps=5, **options))
    self.assertGreater(float(jnp.abs(sample()).max()), 0.2)
    self.assertLess(float(jnp.abs(sample(clip=0.2)).max()), 0.2001)
    thresholded = sample(clip=0.2, threshold_quantile=0.9)
    self.assertLess(float(jnp.abs(thresholded).max()), 0.2001)

  @parameterized.parameters(
      (dict(sampler='euler'), 'euler'), (dict(num_steps=0), '0'),
      (dict(eta=2.0), '2.0'), (dict(sampler='ddpm', eta=0.5), '0.5'),
      (dict(clip=-1.0), '-1.0'), (dict(threshold_quantile=0.9), '0.9'))
  def test_wrong_options_are_refused(self, options, message):
    with self.assertRaisesRegex(ValueError, message):
      samplers.SamplerOptions(**options)


if __name__ == '__main__':
  absltest.main()
