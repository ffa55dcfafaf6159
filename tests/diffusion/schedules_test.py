"""Schedules against diffusers and against their definition."""
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from walt_jax.diffusion import schedules

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'diffusers.npz'


class SchedulesTest(parameterized.TestCase):

  @parameterized.product(name=('linear', 'cosine'), zero=(False, True))
  def test_equals_diffusers(self, name, zero):
    schedule = schedules.make_schedule(name, zero_terminal_snr=zero)
    tag = f'{name}_{"zero" if zero else "plain"}'
    expected = np.load(GOLDEN)[f'gammas/{tag}']
    np.testing.assert_allclose(schedule.gammas[1:], expected, atol=1e-5)

  @parameterized.product(name=('linear', 'cosine'), zero=(False, True))
  def test_lookup_is_exact_at_every_step(self, name, zero):
    schedule = schedules.make_schedule(name, zero_terminal_snr=zero)
    timestep = jnp.arange(1001) / 1000
    alpha, sigma = schedule.alpha_sigma(timestep)
    np.testing.assert_allclose(alpha, np.sqrt(schedule.gammas), rtol=3e-7)
    np.testing.assert_allclose(
        sigma, np.sqrt(schedule.noise_powers), rtol=3e-7)
    self.assertEqual(float(alpha[0]), 1)
    self.assertEqual(float(sigma[0]), 0)
    self.assertTrue(np.all(np.diff(schedule.gammas) < 0))

  def test_zero_terminal_snr(self):
    schedule = schedules.linear()
    self.assertTrue(schedule.has_zero_terminal_snr)
    self.assertEqual(schedule.gammas[-1], 0)
    self.assertEqual(schedule.noise_powers[-1], 1)
    plain = schedules.linear(zero_terminal_snr=False)
    self.assertFalse(plain.has_zero_terminal_snr)
    self.assertGreater(plain.gammas[-1], 1e-5)
    # Algorithm 1 leaves the first step as it was.
    self.assertAlmostEqual(schedule.gammas[1], plain.gammas[1])

  def test_between_two_steps_gamma_is_interpolated(self):
    schedule = schedules.linear()
    middle = schedule.gamma(jnp.asarray(0.1005))
    self.assertAlmostEqual(
        float(middle), schedule.gammas[100:102].mean(), places=6)

  @parameterized.parameters(1, 3, 16, 50, 999, 1000)
  def test_trailing_steps_start_at_the_last_training_step(self, num_steps):
    steps = schedules.trailing_steps(1000, num_steps)
    self.assertLen(steps, num_steps)
    self.assertEqual(steps[0], 999)
    self.assertTrue(np.all(np.diff(steps) < 0))
    self.assertGreaterEqual(steps[-1], 0)

  @parameterized.parameters(0, 1001)
  def test_impossible_step_counts_are_refused(self, num_steps):
    with self.assertRaisesRegex(ValueError, str(num_steps)):
      schedules.trailing_steps(1000, num_steps)

  def test_unknown_name_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'quadratic'):
      schedules.make_schedule('quadratic')


if __name__ == '__main__':
  absltest.main()
