"""Schedules, losses, optimizers and samplers from their config sections."""
from ml_collections import config_dict

from walt_jax.builders import config as config_lib
from walt_jax.builders import networks
from walt_jax.core import conditions
from walt_jax.core import errors
from walt_jax.diffusion import loss as loss_lib
from walt_jax.diffusion import prediction as prediction_lib
from walt_jax.diffusion import samplers
from walt_jax.diffusion import schedules
from walt_jax.sampling import stage_sampler
from walt_jax.training import denoiser_step
from walt_jax.training import optimizers

_DIFFUSION_KEYS = {
    'schedule', 'zero_terminal_snr', 'prediction', 'weighting', 'snr_cap',
    'self_condition_probability', 'frame_condition_probability',
    'frame_condition_lengths', 'drop_label', 'drop_text', 'drop_frames',
    'max_low_res_level'}


def objective(config: config_dict.ConfigDict,
              platform: str) -> denoiser_step.DenoiserObjective:
  """Builds the denoiser of a config with its schedule and loss.

  Raises:
    UserError: On an unknown key, or values that contradict each other.
  """
  section = config.diffusion
  config_lib.check_keys(section, _DIFFUSION_KEYS, 'diffusion')
  denoiser = networks.denoiser(config, platform)
  try:
    options = loss_lib.LossOptions(
        self_condition_probability=section.self_condition_probability,
        frame_condition_probability=section.frame_condition_probability,
        frame_condition_lengths=tuple(section.frame_condition_lengths),
        drop=conditions.DropProbabilities(
            label=section.drop_label, text=section.drop_text,
            frames=section.drop_frames),
        max_low_res_level=section.max_low_res_level,
        weighting=section.weighting, snr_cap=section.snr_cap,
        null_label=denoiser.num_classes)
    result = denoiser_step.DenoiserObjective(
        denoiser=denoiser,
        schedule=schedules.make_schedule(
            section.schedule, section.zero_terminal_snr),
        prediction=prediction_lib.Prediction(section.prediction),
        options=options, has_images=config.data.image_rows > 0)
    result.prediction.check(result.schedule)
  except ValueError as e:
    raise errors.UserError(f'config section diffusion: {e}') from e
  _check_agreement(config)
  return result


def _check_agreement(config: config_dict.ConfigDict) -> None:
  """Refuses a loss that uses a condition which the network lacks."""
  model, section = config.model, config.diffusion
  for switch, key in (('self_condition', 'self_condition_probability'),
                      ('frame_condition', 'frame_condition_probability')):
    if section[key] and not model[switch]:
      raise errors.UserError(
          f'config key diffusion.{key} is {section[key]}, but model.{switch} '
          'is False; set one of them to agree with the other')


def sampler_options(config: config_dict.ConfigDict) -> samplers.SamplerOptions:
  """Builds the sampler that evaluation and `walt sample` use by default."""
  try:
    options = config_lib.typed(
        config.sampler, samplers.SamplerOptions, 'sampler')
  except ValueError as e:
    raise errors.UserError(f'config section sampler: {e}') from e
  if options.factorized and not can_factorize(config):
    raise errors.UserError(
        'config key sampler.factorized is True: that takes a denoiser that '
        'learns images (data.image_rows above 0) and to continue from one '
        'latent frame (model.frame_condition=True, '
        'diffusion.frame_condition_probability above 0 and 1 in '
        'diffusion.frame_condition_lengths); set those, or factorized=False')
  return options


def frame_lengths(config: config_dict.ConfigDict) -> tuple[int, ...]:
  """Counts of given latent frames that a denoiser continues from; () for none.
  """
  if (config.model.frame_condition and
      config.diffusion.frame_condition_probability):
    return tuple(config.diffusion.frame_condition_lengths)
  return ()


def can_factorize(config: config_dict.ConfigDict) -> bool:
  """Whether a denoiser learns all that `SamplerOptions.factorized` takes."""
  return config.data.image_rows > 0 and 1 in frame_lengths(config)


def stage_sampler_of(
    built: denoiser_step.DenoiserObjective,
    config: config_dict.ConfigDict) -> stage_sampler.StageSampler:
  """Builds what draws this stage's latents."""
  latents = config.latents
  return stage_sampler.StageSampler(
      denoiser=built.denoiser, schedule=built.schedule,
      prediction=built.prediction,
      shape=(latents.frames, latents.height, latents.width, latents.channels))


def optimizer_options(
    section: config_dict.ConfigDict) -> optimizers.OptimizerOptions:
  """Builds the options of an `optimizer` section."""
  try:
    return config_lib.typed(section, optimizers.OptimizerOptions, 'optimizer')
  except ValueError as e:
    raise errors.UserError(f'config section optimizer: {e}') from e
