"""DDIM, and ancestral sampling as its noisiest case."""
import numpy as np

from walt_jax.diffusion import sampler
from walt_jax.diffusion import schedules


def ddim(path: schedules.Path, eta: float = 0.0) -> sampler.Linear:
  """DDIM (Song et al. 2010.02502, equations 12 and 16).

  Args:
    path: Path of a schedule with alpha^2 + sigma^2 = 1.
    eta: Noise: 0 deterministic, 1 ancestral sampling, which is DDPM with the
      posterior's variance.
  """
  alpha, next_alpha = path.alpha[:-1], path.alpha[1:]
  sigma, next_sigma = path.sigma[:-1], path.sigma[1:]
  ratio = (alpha / next_alpha) ** 2
  noise_coef = eta * next_sigma / sigma * np.sqrt(1 - ratio)
  direction = np.sqrt(np.maximum(next_sigma ** 2 - noise_coef ** 2, 0))
  x_coef = direction / sigma
  return sampler.Linear(
      path, x_coef, next_alpha - alpha * x_coef, np.zeros_like(alpha),
      noise_coef)
