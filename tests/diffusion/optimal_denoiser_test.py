"""Samplers on data whose best denoiser is known in closed form.

Started at pure noise, a sampler must give back the data's mean, covariance
and weights. Without zero terminal SNR it must not: the last training step
still shows a little of the data's mean, pure noise does not, and samples are
drawn towards the middle (Lin et al. 2305.08891, section 2; W.A.L.T, Table 3).
"""
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.diffusion import network
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction
from walt_jax.diffusion import samplers
from walt_jax.diffusion import schedules

SAMPLERS = ('ddim', 'ddpm', 'dpmpp_2m')
QUICK = {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True}

MEAN = 20.0
COVARIANCE = np.asarray([[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 1.0]])

# Two kinds of images, dark and bright, of so many cells.
CELLS = 64
DARK_WEIGHT = 0.3
BRIGHTNESS = np.asarray([-MEAN, MEAN])


def gaussian_x_0(x_t, alpha, sigma):
  """E[x_0 | x_t] of a Gaussian, x_t [B, D]."""
  variances, axes = np.linalg.eigh(COVARIANCE)
  gain = alpha * variances / (alpha ** 2 * variances + sigma ** 2)
  return MEAN + ((x_t - alpha * MEAN) @ axes * gain) @ axes.T


def mixture_x_0(x_t, alpha, sigma):
  """E[x_0 | x_t] of two Gaussians of deviation 1, x_t [B, D]."""
  offset = x_t[:, None] - alpha * BRIGHTNESS[:, None]  # [B, 2, D].
  variance = alpha ** 2 + sigma ** 2
  logits = jnp.log(jnp.asarray([DARK_WEIGHT, 1 - DARK_WEIGHT])) - (
      jnp.square(offset).sum(-1) / (2 * variance))
  of_kind = BRIGHTNESS[:, None] + alpha / variance * offset
  return jnp.einsum('bk,bkd->bd', jax.nn.softmax(logits), of_kind)


@functools.cache
def sampled(x_0_of, num_cells, num_rows, zero_terminal_snr, options,
            exact=False):
  """Samples [num_rows, num_cells]; from 0 and the unit vectors if `exact`."""
  schedule = schedules.linear(zero_terminal_snr)

  def denoise(x_t, timestep, conditioning):
    del conditioning
    alpha, sigma = schedule.alpha_sigma(timestep[0, 0])
    flat = x_t.reshape(-1, num_cells)
    x_0 = x_0_of(flat, alpha, sigma)
    eps = (flat - alpha * x_0) / sigma
    return prediction.Prediction('v').target(
        x_0, eps, alpha, sigma).reshape(x_t.shape)

  shape = (1, 1, 1, num_cells)
  start = (np.eye(num_cells + 1, num_cells, -1).reshape(-1, *shape)
           if exact else None)

  def draw(keys):
    return samplers.sample(
        network.of_function(denoise), keys, shape, schedule=schedule,
        options=options,
        initial_noise=None if start is None else jnp.asarray(start))

  keys = noise.row_keys(jax.random.key(0), num_rows)
  out = jax.jit(draw, compiler_options=QUICK)(keys)
  return np.asarray(out, np.float64).reshape(-1, num_cells)


def gaussian_moments(sampler, zero_terminal_snr, num_steps):
  """Mean and covariance of the samples; exact where nothing is random."""
  options = samplers.SamplerOptions(sampler=sampler, num_steps=num_steps)
  num = len(COVARIANCE)
  if sampler == 'ddpm':
    rows = sampled(gaussian_x_0, num, 4096, zero_terminal_snr, options)
    return rows.mean(0), np.cov(rows.T)
  # All steps are affine: x = A noise + b.
  rows = sampled(gaussian_x_0, num, num + 1, zero_terminal_snr, options, True)
  linear = (rows[1:] - rows[0]).T
  return rows[0], linear @ linear.T


class GaussianTest(parameterized.TestCase):

  @parameterized.parameters(*SAMPLERS)
  def test_mean_and_covariance_are_recovered(self, sampler):
    mean, covariance = gaussian_moments(sampler, True, 250)
    np.testing.assert_allclose(
        mean, MEAN, atol=0.06 if sampler == 'ddpm' else 0.01)
    np.testing.assert_allclose(
        covariance, COVARIANCE, atol=0.1 if sampler == 'ddpm' else 0.02)

  @parameterized.parameters('ddim', 'dpmpp_2m')
  def test_without_zero_terminal_snr_the_mean_is_off(self, sampler):
    """By the mean that the last training step still shows."""
    schedule = schedules.linear(zero_terminal_snr=False)
    mean, _ = gaussian_moments(sampler, False, 250)
    left = MEAN * np.sqrt(schedule.gammas[-1])
    self.assertGreater(left, 0.12)
    # Along the third axis, of variance 1, all of it stays.
    self.assertAlmostEqual(mean[2], MEAN - left, delta=0.01)
    self.assertTrue(np.all(mean < MEAN - 0.08))

  @parameterized.parameters((True, 50), (False, 50), (True, 5))
  def test_ddim_is_exactly_as_wide_as_its_steps_make_it(self, zero, num_steps):
    """A Gaussian of deviation 1 shrinks by the cosine of every step's angle."""
    schedule = schedules.linear(zero)
    steps = schedules.trailing_steps(1000, num_steps)
    alphas = np.sqrt(np.append(schedule.gammas[steps + 1], 1))
    shrink = np.prod(np.cos(np.diff(np.arccos(alphas))))
    mean, covariance = gaussian_moments('ddim', zero, num_steps)
    self.assertAlmostEqual(covariance[2, 2], shrink ** 2, places=4)
    self.assertAlmostEqual(mean[2], MEAN * (1 - alphas[0] * shrink), places=3)


class MixtureTest(parameterized.TestCase):

  def kinds(self, sampler, zero_terminal_snr):
    """Weight of the dark kind; means and deviations of dark and bright."""
    rows = sampled(
        mixture_x_0, CELLS, 2048, zero_terminal_snr,
        samplers.SamplerOptions(sampler=sampler, num_steps=100))
    is_dark = rows.mean(1) < 0
    kinds = rows[is_dark], rows[~is_dark]
    return (is_dark.mean(), [kind.mean() for kind in kinds],
            [kind.std() for kind in kinds])

  @parameterized.parameters(*SAMPLERS)
  def test_weights_means_and_deviations_are_recovered(self, sampler):
    weight, means, deviations = self.kinds(sampler, True)
    self.assertAlmostEqual(weight, DARK_WEIGHT, delta=0.03)
    np.testing.assert_allclose(means, BRIGHTNESS, atol=0.02)
    np.testing.assert_allclose(deviations, 1, atol=0.06)

  @parameterized.parameters(*SAMPLERS)
  def test_without_zero_terminal_snr_weights_are_off(self, sampler):
    """Pure noise looks less bright than the model has learnt to expect."""
    weight, _, _ = self.kinds(sampler, False)
    self.assertGreater(weight, DARK_WEIGHT + 0.05)


if __name__ == '__main__':
  absltest.main()
