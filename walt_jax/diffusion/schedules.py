"""Noise schedules: how much signal and noise there is at each timestep.

x_t = alpha x_0 + sigma eps, where `timestep` runs from 0, clean data, to 1, the
noisiest. The paper's schedules keep alpha^2 + sigma^2 = 1 and write gamma for
alpha^2 (W.A.L.T, section 3).
"""
import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

COSINE_OFFSET = 0.008  # Nichol and Dhariwal 2021, equation 17.
COSINE_MAX_BETA = 0.999


@dataclasses.dataclass(frozen=True, eq=False)
class Path:
  """The places that a sampler visits, noisiest first, ending in clean data.

  Attributes:
    timestep: float64 [num_steps + 1], falling to 0.
    alpha: float64 [num_steps + 1], what the signal is multiplied by.
    sigma: float64 [num_steps + 1], what the noise is multiplied by.
  """
  timestep: np.ndarray
  alpha: np.ndarray
  sigma: np.ndarray


class Schedule(Protocol):
  """Signal and noise as functions of time, and which times are used."""

  @property
  def has_zero_terminal_snr(self) -> bool:
    """Whether alpha is 0 at timestep 1."""

  def alpha_sigma(self, timestep: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Alpha and sigma, float32 in the shape of `timestep`, in [0, 1]."""

  def training_timestep(self, uniform: jax.Array) -> jax.Array:
    """Turns draws from [0, 1), of any shape, into timesteps to train at."""

  def path(self, num_steps: int) -> Path:
    """The way of a sampler of so many steps.

    Raises:
      ValueError: The schedule has no such path.
    """


@dataclasses.dataclass(frozen=True, eq=False)
class Discrete:
  """A schedule of num_steps discrete steps, tabulated in float64.

  `timestep` is (i + 1) / num_steps for the discrete step i.

  Attributes:
    name: Name in messages.
    gammas: [num_steps + 1], signal power, falling from gammas[0] = 1.
    noise_powers: [num_steps + 1], 1 - gammas without its rounding error.
  """
  name: str
  gammas: np.ndarray
  noise_powers: np.ndarray

  @property
  def num_steps(self) -> int:
    return len(self.gammas) - 1

  @property
  def has_zero_terminal_snr(self) -> bool:
    return bool(self.gammas[-1] == 0)

  def alpha_sigma(self, timestep: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sqrt(gamma) and sqrt(1 - gamma), float32 in the shape of `timestep`.

    Between two discrete steps gamma is interpolated linearly.

    Args:
      timestep: Any shape, in [0, 1].
    """
    gamma, noise_power = self._powers(timestep)
    return jnp.sqrt(gamma), jnp.sqrt(noise_power)

  def gamma(self, timestep: jax.Array) -> jax.Array:
    """Remaining signal power, float32 in the shape of `timestep`."""
    return self._powers(timestep)[0]

  def log_snr(self, timestep: jax.Array) -> jax.Array:
    """log(gamma / (1 - gamma)); -inf at a zero-SNR step, inf at 0."""
    gamma, noise_power = self._powers(timestep)
    return jnp.log(gamma) - jnp.log(noise_power)

  def training_timestep(self, uniform: jax.Array) -> jax.Array:
    """Every discrete step alike; `uniform` in [0, 1), of any shape."""
    step = jnp.minimum(
        jnp.floor(uniform * self.num_steps), self.num_steps - 1)
    return (step + 1) / self.num_steps

  def path(self, num_steps: int) -> Path:
    """The trailing steps (`trailing_steps`), then clean data."""
    index = np.append(trailing_steps(self.num_steps, num_steps) + 1, 0)
    return Path(index / self.num_steps, np.sqrt(self.gammas[index]),
                np.sqrt(self.noise_powers[index]))

  def _powers(self, timestep: jax.Array) -> tuple[jax.Array, jax.Array]:
    position = jnp.asarray(timestep, jnp.float32) * self.num_steps
    # Discrete steps are exact in spite of the rounding of (i + 1) / num_steps.
    nearest = jnp.round(position)
    is_step = jnp.abs(position - nearest) < 1e-3
    position = jnp.where(is_step, nearest, position)
    low = jnp.clip(jnp.floor(position), 0, self.num_steps - 1)
    fraction = position - low
    low = low.astype(jnp.int32)
    table = jnp.asarray(
        np.stack([self.gammas, self.noise_powers], -1), jnp.float32)
    first, second = table[low], table[low + 1]
    mixed = first + fraction[..., None] * (second - first)
    # Exact at the right end as well, where a + (b - a) need not be b.
    mixed = jnp.where((fraction == 1)[..., None], second, mixed)
    return mixed[..., 0], mixed[..., 1]


def linear(
    zero_terminal_snr: bool = True,
    num_steps: int = 1000,
    first_beta: float = 1e-4,
    last_beta: float = 0.02,
) -> Discrete:
  """Linear betas (Ho et al. 2020), the paper's schedule (section 5.2)."""
  betas = np.linspace(first_beta, last_beta, num_steps, dtype=np.float64)
  return _from_betas('linear', betas, zero_terminal_snr)


def cosine(zero_terminal_snr: bool = True, num_steps: int = 1000) -> Discrete:
  """Cosine gammas (Nichol and Dhariwal 2021), betas capped at 0.999."""
  time = np.arange(num_steps + 1, dtype=np.float64) / num_steps
  angle = (time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * np.pi / 2
  power = np.cos(angle) ** 2
  betas = np.minimum(1 - power[1:] / power[:-1], COSINE_MAX_BETA)
  return _from_betas('cosine', betas, zero_terminal_snr)


def make_schedule(
    name: str, zero_terminal_snr: bool = True, num_steps: int = 1000
) -> Schedule:
  """The schedule called `name`: 'linear' or 'cosine'."""
  makers = {'linear': linear, 'cosine': cosine}
  if name not in makers:
    raise ValueError(f'Unknown schedule {name!r}; choose of {sorted(makers)}.')
  return makers[name](zero_terminal_snr=zero_terminal_snr, num_steps=num_steps)


def _from_betas(
    name: str, betas: np.ndarray, zero_terminal_snr: bool) -> Discrete:
  gammas = np.cumprod(1 - betas)
  noise_powers = 1 - gammas
  if zero_terminal_snr:
    # Lin et al. 2305.08891, algorithm 1: shift and stretch sqrt(gamma).
    roots = np.sqrt(gammas)
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    gammas, noise_powers = roots ** 2, (1 - roots) * (1 + roots)
  return Discrete(name, np.concatenate([[1.], gammas]),
                  np.concatenate([[0.], noise_powers]))


def trailing_steps(num_train_steps: int, num_steps: int) -> np.ndarray:
  """Discrete steps i visited by an N-step sampler, noisiest first, int [N].

  "Trailing" spacing (Lin et al. 2305.08891, table 2) starts at the last
  training step, so that sampling begins at zero SNR.
  """
  if not 1 <= num_steps <= num_train_steps:
    raise ValueError(
        f'The number of sampling steps must be 1..{num_train_steps}, '
        f'not {num_steps}.')
  remaining = np.arange(num_steps, 0, -1) / num_steps
  return np.round(num_train_steps * remaining).astype(np.int64) - 1
