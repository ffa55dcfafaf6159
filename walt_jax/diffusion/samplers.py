"""Samplers by name, and the `lax.scan` that takes one from noise to latents."""
from collections.abc import Callable, Sequence
import dataclasses

import jax
import jax.numpy as jnp

from walt_jax.core import extensions
from walt_jax.core import ranges
from walt_jax.core import types
from walt_jax.diffusion import ddim
from walt_jax.diffusion import dpm_solver
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import network as network_lib
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction as prediction_lib
from walt_jax.diffusion import sampler as sampler_lib
from walt_jax.diffusion import schedules

V_PREDICTION = prediction_lib.Prediction('v')
NO_GUIDANCE = guidance_lib.Guidance()
_INITIAL, _STEPS = 0, 1  # Uses of a row's key.


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
  """How to sample.

  Attributes:
    sampler: Rule of the steps: 'ddim', 'ddpm' (ancestral) or 'dpmpp_2m'
      (DPM-Solver++ 2M); or `module:Class` of your own (`sampler.Sampler`).
    num_steps: Passes of the network, on trailing timesteps.
    eta: Noise of DDIM: 0 deterministic, 1 ancestral.
    clip: If given, every estimate of x_0 is clipped to [-clip, clip].
    threshold_quantile: If given (with `clip`), dynamic thresholding (Imagen):
      a row whose quantile of |x_0| exceeds `clip` is scaled down to it.
    factorized: Draws the first latent frame alone, as an image, and then the
      clip that begins with it. Each of the two takes `num_steps` passes.
  """
  sampler: str = 'ddim'
  num_steps: ranges.Steps = 50
  eta: ranges.Fraction = 0.0
  clip: ranges.Positive | None = None
  threshold_quantile: ranges.SomeFraction | None = None
  factorized: bool = False

  def __post_init__(self):
    if self.sampler not in SAMPLERS:
      _own(self.sampler)
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


# How each is made of a path.
Maker = Callable[[schedules.Path, SamplerOptions], sampler_lib.Sampler]
SAMPLERS: dict[str, Maker] = {
    'ddim': lambda path, options: ddim.ddim(path, options.eta),
    'ddpm': lambda path, options: ddim.ddim(path, eta=1.0),
    'dpmpp_2m': lambda path, options: dpm_solver.dpmpp_2m(path),
}
DDIM_50 = SamplerOptions()  # Section 5.2.


def make(schedule: schedules.Schedule,
         options: SamplerOptions) -> sampler_lib.Sampler:
  """Builds the sampler that the options name, for this schedule.

  Raises:
    ValueError: The schedule has no path of so many steps.
  """
  path = schedule.path(options.num_steps)
  if options.sampler in SAMPLERS:
    return SAMPLERS[options.sampler](path, options)
  return _own(options.sampler)(path)


def _own(name: str) -> Callable[[schedules.Path], sampler_lib.Sampler]:
  """A sampler class of the user's own."""
  if not extensions.is_name(name):
    raise ValueError(f'Unknown sampler {name!r}; choose of {tuple(SAMPLERS)}, '
                     'or write one of your own as module:Class.')
  return extensions.load(name, sampler_lib.Sampler, 'the sampler')


def sample(
    network: network_lib.Network,
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
    network: The network with its parameters bound.
    keys: Random keys [B], one a row (`noise.row_keys`).
    shape: (1+t, h, w, c) of one row.
    schedule: The diffusion schedule.
    prediction: What the network predicts.
    conditioning: Conditions of the rows. Latent frames given in `frame_cond`
      are written back into the result (where `frame_mask` is 1).
    options: Sampler and number of steps.
    guidance: Classifier-free guidance.
    self_condition: Whether the network is given its last estimate of x_0, as
      it was in training; zeros in the first step.
    initial_noise: [B, *shape], instead of noise drawn from `keys`.

  Returns:
    Normalised latents, float32 [B, *shape].
  """
  return sample_trajectory(
      network, keys, shape, schedule=schedule, prediction=prediction,
      conditioning=conditioning, options=options, guidance=guidance,
      self_condition=self_condition, initial_noise=initial_noise,
      keep_steps=False)[0]


def sample_trajectory(
    network: network_lib.Network,
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
  sampler = make(schedule, options)
  step_keys = noise.fold(keys, _STEPS)
  evaluate = guidance_lib.guided(network, guidance)(conditioning, num_rows)

  def estimate(x, where, old_x_0):
    output = evaluate(x, where['timestep'],
                      old_x_0 if self_condition else None)
    output = output.astype(jnp.float32)
    return _limit(
        prediction.x_0(output, x, where['alpha'], where['sigma']), options)

  def step(state, inputs):
    number, row = inputs
    fresh = lambda: noise.normal(noise.fold(step_keys, number), shape)
    state = sampler.step(state, row, estimate, fresh)
    return state, (state.x if keep_steps else None)

  rows = {name: jnp.asarray(column, jnp.float32)
          for name, column in sampler.rows().items()}
  numbers = jnp.arange(options.num_steps)
  state, steps = jax.lax.scan(step, sampler.init(x), (numbers, rows))
  x = state.x
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
