"""DPM-Solver++ 2M (Lu et al. 2211.01095, algorithm 2)."""
import dataclasses

import numpy as np

from walt_jax.diffusion import sampler
from walt_jax.diffusion import schedules

# Stands for zero signal power, since log-SNR must be finite (the value that
# diffusers uses).
LEAST_GAMMA = 2.0 ** -24


def dpmpp_2m(path: schedules.Path) -> sampler.Linear:
  """The multistep solver of second order, deterministic."""
  path = _with_signal(path)
  alpha, next_alpha = path.alpha[:-1], path.alpha[1:]
  sigma, next_sigma = path.sigma[:-1], path.sigma[1:]
  x_coef = next_sigma / sigma
  scale = next_alpha - alpha * x_coef  # alpha' (1 - exp(-h)).
  log_snr = np.log(alpha / sigma)
  # Second order needs a previous estimate and a finite last log-SNR: the
  # first and the last step are of first order.
  half_ratio = np.zeros_like(alpha)
  if len(alpha) > 2:
    h = np.diff(log_snr)
    half_ratio[1:-1] = 0.5 * h[1:] / h[:-1]
  return sampler.Linear(
      path, x_coef, scale * (1 + half_ratio), -scale * half_ratio,
      np.zeros_like(alpha))


def _with_signal(path: schedules.Path) -> schedules.Path:
  """The path with a little signal where it begins in pure noise."""
  if path.alpha[0]:
    return path
  alpha, sigma = path.alpha.copy(), path.sigma.copy()
  alpha[0], sigma[0] = np.sqrt(LEAST_GAMMA), np.sqrt(1 - LEAST_GAMMA)
  return dataclasses.replace(path, alpha=alpha, sigma=sigma)
