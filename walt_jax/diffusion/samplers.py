"""Samplers: from noise to latents in one `lax.scan`.

Every sampler here is linear in what a step knows: the current x, the new
estimate of x_0, the one before it, and fresh noise. A sampler is therefore a
table of four coefficients a step, computed on the host in float64.
"""
from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction as prediction_lib
from walt_jax.diffusion import schedules

SAMPLERS = ('ddim', 'ddpm', 'dpmpp_2m')
# Stands for zero signal power in DPM-Solver++, whose log-SNR must be finite
# (the value that diffusers uses).
DPM_LEAST_GAMMA = 2.0 ** -24
V_PREDICTION = prediction_lib.Prediction('v')
NO_GUIDANCE = guidance_lib.Guidance()
_INITIAL, _STEPS = 0, 1  # Uses of a row's key.


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
  """How to sample.

  Attributes:
    sampler: 'ddim', 'ddpm' (ancestral) or 'dpmpp_2m' (DPM-Solver++ 2M).
    num_steps: Passes of the network, on trailing timesteps.
    eta: Noise of DDIM: 0 deterministic, 1 ancestral.
    clip: If given, every estimate of x_0 is clipped to [-clip, clip].
    threshold_quantile: If given (with `clip`), dynamic thresholding (Imagen):
      a row whose quantile of |x_0| exceeds `clip` is scaled down to it.
    factorized: Draws the first latent frame alone, as an image, and then the
      clip that begins with it (`sampling.factorized`).
      Each of the two takes `num_steps` passes.
  """
  sampler: str = 'ddim'
  num_steps: int = 50
  eta: float = 0.0
  clip: float | None = None
  threshold_quantile: float | None = None
  factorized: bool = False

  def __post_init__(self):
    if self.sampler not in SAMPLERS:
      raise ValueError(
          f'Unknown sampler {self.sampler!r}; choose of {SAMPLERS}.')
    if self.num_steps < 1:
      raise ValueError(f'num_steps must be positive, not {self.num_steps}.')
    if not 0 <= self.eta <= 1 or (self.eta and self.sampler != 'ddim'):
      raise ValueError(f'eta is for ddim, in [0, 1]; got {self.eta} with '
                       f'{self.sampler}.')
    if self.clip is not None and self.clip <= 0:
      raise ValueError(f'clip must be positive, not {self.clip}.')
    if self.threshold_quantile is not None and (
        self.clip is None or not 0 < self.threshold_quantile <= 1):
      raise ValueError(
          'threshold_quantile must be in (0, 1] and needs clip; got '
          f'{self.threshold_quantile} with clip={self.clip}.')


DDIM_50 = SamplerOptions()  # Section 5.2.


@dataclasses.dataclass(frozen=True, eq=False)
class StepTable:
  """Arrays [num_steps], noisiest step first, float64.

  x <- x_coef x + x_0_coef x_0 + old_coef (the previous x_0) + noise_coef z.
  """
  timestep: np.ndarray
  alpha: np.ndarray
  sigma: np.ndarray
  x_coef: np.ndarray
  x_0_coef: np.ndarray
  old_coef: np.ndarray
  noise_coef: np.ndarray


def step_table(
    schedule: schedules.Schedule, options: SamplerOptions) -> StepTable:
  """Coefficients of every step of the sampler."""
  steps = schedules.trailing_steps(schedule.num_steps, options.num_steps)
  index = np.append(steps + 1, 0)
  gammas, noise_powers = schedule.gammas[index], schedule.noise_powers[index]
  if options.sampler == 'dpmpp_2m' and gammas[0] == 0:
    gammas[0], noise_powers[0] = DPM_LEAST_GAMMA, 1 - DPM_LEAST_GAMMA
  alpha, sigma = np.sqrt(gammas), np.sqrt(noise_powers)
  alpha, next_alpha = alpha[:-1], alpha[1:]
  sigma, next_sigma = sigma[:-1], sigma[1:]
  zeros = np.zeros_like(alpha)
  if options.sampler == 'dpmpp_2m':
    x_coef = next_sigma / sigma
    scale = next_alpha - alpha * x_coef  # alpha' (1 - exp(-h)).
    log_snr = np.log(alpha / sigma)
    # Second order needs a previous estimate and a finite last log-SNR: the
    # first and the last step are of first order.
    half_ratio = zeros.copy()
    if len(steps) > 2:
      h = np.diff(log_snr)
      half_ratio[1:-1] = 0.5 * h[1:] / h[:-1]
    coefs = (x_coef, scale * (1 + half_ratio), -scale * half_ratio, zeros)
  else:
    # DDIM, Song et al. 2010.02502, equations 12 and 16; ancestral sampling
    # (DDPM with the posterior's variance) is its case eta = 1.
    eta = 1.0 if options.sampler == 'ddpm' else options.eta
    ratio = gammas[:-1] / gammas[1:]
    noise_coef = eta * next_sigma / sigma * np.sqrt(1 - ratio)
    direction = np.sqrt(np.maximum(next_sigma ** 2 - noise_coef ** 2, 0))
    x_coef = direction / sigma
    coefs = (x_coef, next_alpha - alpha * x_coef, zeros, noise_coef)
  return StepTable((steps + 1) / schedule.num_steps, alpha, sigma, *coefs)


def sample(
    denoise_fn: guidance_lib.DenoiseFn,
    keys: jax.Array,
    shape: Sequence[int],
    *,
    schedule: schedules.Schedule,
    prediction: prediction_lib.Prediction = V_PREDICTION,
    conditioning: types.Conditioning | None = None,
    options: SamplerOptions = DDIM_50,
    guidance: guidance_lib.Guidance = NO_GUIDANCE,
    self_condition: bool = False,
    initial_noise: jax.Array | None = None,
) -> jax.Array:
  """Draws latents; a row's sample depends on its own key and conditions only.

  Args:
    denoise_fn: The network with its parameters bound.
    keys: Random keys [B], one a row (`noise.row_keys`).
    shape: (1+t, h, w, c) of one row.
    schedule: The diffusion schedule.
    prediction: What the network predicts.
    conditioning: Conditions of the rows. Latent frames given in `frame_cond`
      are written back into the result (where `frame_mask` is 1).
    options: Sampler and number of steps.
    guidance: Classifier-free guidance.
    self_condition: Whether the network takes its last estimate of x_0.
    initial_noise: [B, *shape], instead of noise drawn from `keys`.

  Returns:
    Normalised latents, float32 [B, *shape].
  """
  return sample_trajectory(
      denoise_fn, keys, shape, schedule=schedule, prediction=prediction,
      conditioning=conditioning, options=options, guidance=guidance,
      self_condition=self_condition, initial_noise=initial_noise,
      keep_steps=False)[0]


def sample_trajectory(
    denoise_fn: guidance_lib.DenoiseFn,
    keys: jax.Array,
    shape: Sequence[int],
    *,
    schedule: schedules.Schedule,
    prediction: prediction_lib.Prediction = V_PREDICTION,
    conditioning: types.Conditioning | None = None,
    options: SamplerOptions = DDIM_50,
    guidance: guidance_lib.Guidance = NO_GUIDANCE,
    self_condition: bool = False,
    initial_noise: jax.Array | None = None,
    keep_steps: bool = True,
) -> tuple[jax.Array, jax.Array | None]:
  """As `sample`; also returns x after every step, [num_steps, B, *shape]."""
  prediction.check(schedule)
  if conditioning is None:
    conditioning = types.Conditioning()
  num_rows = keys.shape[0]
  x = (noise.normal(noise.fold(keys, _INITIAL), shape)
       if initial_noise is None else initial_noise.astype(jnp.float32))
  if x.shape != (num_rows, *shape):
    raise ValueError(f'The initial noise has shape {x.shape}, expected '
                     f'{(num_rows, *shape)}.')
  table = step_table(schedule, options)
  is_noisy = bool(table.noise_coef.any())
  step_keys = noise.fold(keys, _STEPS)
  denoise = guidance_lib.guided(denoise_fn, guidance)

  def step(carry, inputs):
    x, old_x_0 = carry
    number, row = inputs
    timestep = jnp.broadcast_to(row['timestep'], (num_rows, 1))
    seen = (conditioning.replace(self_cond=old_x_0)
            if self_condition else conditioning)
    output = denoise(x, timestep, seen).astype(jnp.float32)
    x_0 = prediction.x_0(output, x, row['alpha'], row['sigma'])
    x_0 = _limit(x_0, options)
    x = (row['x_coef'] * x + row['x_0_coef'] * x_0 + row['old_coef'] * old_x_0)
    if is_noisy:
      fresh = noise.normal(noise.fold(step_keys, number), shape)
      x = x + row['noise_coef'] * fresh
    return (x, x_0), (x if keep_steps else None)

  rows = {name: jnp.asarray(column, jnp.float32)
          for name, column in dataclasses.asdict(table).items()}
  numbers = jnp.arange(options.num_steps)
  (x, _), steps = jax.lax.scan(step, (x, jnp.zeros_like(x)), (numbers, rows))
  if conditioning.frame_mask is not None:
    given = conditioning.frame_mask[..., None, None, None] > 0
    x = jnp.where(given, conditioning.frame_cond.astype(x.dtype), x)
  return x, steps


def _limit(x_0: jax.Array, options: SamplerOptions) -> jax.Array:
  """Clips or thresholds an estimate of x_0, as the options say."""
  if options.clip is None:
    return x_0
  limit = options.clip
  if options.threshold_quantile is None:
    return jnp.clip(x_0, -limit, limit)
  axes = tuple(range(1, x_0.ndim))
  quantile = jnp.quantile(
      jnp.abs(x_0), options.threshold_quantile, axis=axes, keepdims=True)
  reach = jnp.maximum(quantile, limit)
  return jnp.clip(x_0, -reach, reach) * (limit / reach)
