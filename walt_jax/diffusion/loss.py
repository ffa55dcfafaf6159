"""The denoiser's training loss, with everything that is drawn at random."""
from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.core import conditions
from walt_jax.core import types
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction as prediction_lib
from walt_jax.diffusion import schedules
from walt_jax.diffusion import self_conditioning

# (params, x_t, timestep [B, F], conditioning) -> output, as x_t.
ParamDenoiseFn = Callable[
    [Any, jax.Array, jax.Array, types.Conditioning], jax.Array]
WEIGHTINGS = ('mse', 'min_snr')
# Uses of a row's key; changing one changes every run's random numbers.
_DRAWS, _NOISE, _LOW_RES_NOISE, _DROP, _GROUP = range(5)
# The columns of the uniform draws, all made at once.
_TIMESTEP, _LEVEL, _SELF_COND, _FRAMES, _LENGTH, _NUM_DRAWS = range(6)


@dataclasses.dataclass(frozen=True)
class LossOptions:
  """What is drawn at random, and how errors are weighted.

  Attributes:
    self_condition_probability: p_sc (section 4.2); 0 for a model without.
    self_condition_group: Rows of a group of which as many as needed are chosen;
      see `self_conditioning.Groups`.
    groups_in_shards: Whether every shard of the batch holds whole groups.
    frame_condition_probability: p_fp (section 4.3), of video rows.
    frame_condition_lengths: Latent frames given, one of these at random.
    drop: How often each condition is left out, for guidance.
    max_low_res_level: t_max of the noise augmentation (section 4.5).
    weighting: 'mse', or 'min_snr' (weight 0 at a zero-SNR step).
    snr_cap: The cap of 'min_snr'.
    null_label: The label id that means none (`num_classes`).
  """
  self_condition_probability: float = 0.9
  self_condition_group: int = 1
  groups_in_shards: bool = False
  frame_condition_probability: float = 0.0
  frame_condition_lengths: tuple[int, ...] = (1, 2)
  drop: conditions.DropProbabilities = (
      conditions.DropProbabilities())
  max_low_res_level: float = 0.3
  weighting: str = 'mse'
  snr_cap: float = 5.0
  null_label: int | None = None

  def __post_init__(self):
    for name in ('self_condition_probability', 'frame_condition_probability',
                 'max_low_res_level'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(
            f'{name} must be in [0, 1], not {getattr(self, name)}.')
    if self.self_condition_group < 1:
      raise ValueError('self_condition_group must be positive, not '
                       f'{self.self_condition_group}.')
    if self.weighting not in WEIGHTINGS:
      raise ValueError(f'Unknown loss weighting {self.weighting!r}; choose of '
                       f'{WEIGHTINGS}.')
    if self.frame_condition_probability and (
        not self.frame_condition_lengths
        or min(self.frame_condition_lengths) < 1):
      raise ValueError('frame_condition_lengths must be positive, not '
                       f'{self.frame_condition_lengths}.')

  @property
  def self_condition_groups(self) -> self_conditioning.Groups:
    """How rows are chosen that are given an estimate of x_0."""
    return self_conditioning.Groups(
        self.self_condition_probability, self.self_condition_group,
        self.groups_in_shards)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossParts:
  """What the mean hides; arrays [B, F], as the timesteps are.

  Attributes:
    loss: Weighted mean squared error of each row (or image).
    mse: The same without weights.
    timestep: The timestep it was taken at.
  """
  loss: jax.Array
  mse: jax.Array
  timestep: jax.Array


def diffusion_loss(
    denoise_fn: ParamDenoiseFn,
    params: Any,
    latents: jax.Array,
    conditioning: types.Conditioning,
    key: jax.Array,
    *,
    schedule: schedules.Schedule,
    prediction: prediction_lib.Prediction,
    options: LossOptions,
) -> tuple[jax.Array, LossParts]:
  """Mean loss of a batch.

  Args:
    denoise_fn: The network; the only thing that sees `params`.
    params: Parameters to differentiate by.
    latents: Clean, normalised latents [B, 1+t, h, w, c].
    conditioning: Label, text, clean `low_res` and `is_image` of the rows
      (`conditioning.from_batch`); what is random is drawn here. With
      `is_image` None every row is a video with one timestep (F = 1), else
      F = 1+t and each image has its own.
    key: One random key, or keys [B]. Row i draws from its own key, so its
      draws do not depend on the batch it stands in.
    schedule: The diffusion schedule.
    prediction: What the network predicts.
    options: Probabilities and weights.

  Returns:
    The float32 mean of the losses, and their parts.
  """
  prediction.check(schedule)
  num_rows, num_frames = latents.shape[:2]
  keys = noise.row_keys(key, num_rows) if key.ndim == 0 else key
  is_image = conditioning.is_image
  num_draws = 1 if is_image is None else num_frames

  uniform = noise.uniform(
      noise.fold(keys, _DRAWS), (num_draws, _NUM_DRAWS))
  timestep = schedule.training_timestep(
      conditions.per_row(uniform[..., _TIMESTEP], is_image))
  alpha, sigma = schedule.alpha_sigma(timestep[..., None, None, None])
  eps = noise.normal(noise.fold(keys, _NOISE), latents.shape[1:])
  x_t = alpha * latents + sigma * eps

  conditioning = _give_frames(
      uniform[:, 0], latents, conditioning, options)
  conditioning = conditions.drop_conditions(
      noise.fold(keys, _DROP), conditioning, options.drop,
      null_label=options.null_label)
  conditioning = _augment_low_res(
      noise.fold(keys, _LOW_RES_NOISE), uniform[..., _LEVEL], conditioning,
      schedule, options)
  if options.self_condition_probability:
    # Parameters are constants of the first pass: nothing of it is kept for
    # the backward pass.
    constants = jax.lax.stop_gradient(params)

    def first_pass(rows):
      x_t, timestep, alpha, sigma, conditioning = rows
      first = denoise_fn(constants, x_t, timestep, conditioning)
      return prediction.x_0(first.astype(jnp.float32), x_t, alpha, sigma)

    x_0 = options.self_condition_groups.estimate(
        first_pass, (x_t, timestep, alpha, sigma, conditioning),
        noise.fold(keys, _GROUP), uniform[:, 0, _SELF_COND])
    conditioning = dataclasses.replace(
        conditioning, self_cond=jax.lax.stop_gradient(x_0))

  output = denoise_fn(params, x_t, timestep, conditioning).astype(jnp.float32)
  target = prediction.target(latents, eps, alpha, sigma)
  error = jnp.square(output - target).mean(axis=(2, 3, 4))  # [B, 1+t].
  mse = error if num_draws > 1 else error.mean(axis=1, keepdims=True)
  loss = mse
  if options.weighting == 'min_snr':
    loss = mse * prediction.min_snr_weight(
        alpha[..., 0, 0, 0] ** 2, sigma[..., 0, 0, 0] ** 2, options.snr_cap)
  return loss.mean(), LossParts(loss=loss, mse=mse, timestep=timestep)


def _give_frames(uniform, latents, conditioning, options):
  """Gives the first latent frames to a random part of the video rows."""
  if not options.frame_condition_probability:
    return conditioning
  num_frames = latents.shape[1]
  lengths = jnp.asarray(options.frame_condition_lengths)
  if max(options.frame_condition_lengths) >= num_frames:
    raise ValueError(
        f'Cannot give {max(options.frame_condition_lengths)} of {num_frames} '
        'latent frames: nothing would be left to predict.')
  chosen = (uniform[:, _LENGTH] * len(lengths)).astype(jnp.int32)
  length = lengths[jnp.minimum(chosen, len(lengths) - 1)]
  given = uniform[:, _FRAMES] < options.frame_condition_probability
  if conditioning.is_image is not None:
    given &= ~conditioning.is_image
  mask = (jnp.arange(num_frames) < length[:, None]) & given[:, None]
  return conditions.give_frames(conditioning, latents, mask)


def _augment_low_res(keys, uniform, conditioning, schedule, options):
  """Noises the low-resolution latents at a random level (section 4.5)."""
  if conditioning.low_res is None:
    return conditioning
  level = options.max_low_res_level * conditions.per_row(
      uniform, conditioning.is_image)
  low_res = noise.augment_low_res(
      schedule, keys, conditioning.low_res, level)
  return dataclasses.replace(
        conditioning, low_res=low_res, low_res_level=level)
