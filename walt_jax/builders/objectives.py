"""Schedules, losses, optimizers and samplers from their config sections."""
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.core import conditions
from walt_jax.core import errors
from walt_jax.diffusion import loss as loss_lib
from walt_jax.diffusion import prediction as prediction_lib
from walt_jax.diffusion import samplers
from walt_jax.diffusion import schedules
from walt_jax.sampling import stage_sampler
from walt_jax.training import denoiser_step


def objective(config: schema.DenoiserExperiment,
              platform: str) -> denoiser_step.DenoiserObjective:
  """Builds the denoiser of a config with its schedule and loss.

  Raises:
    UserError: On values that contradict each other.
  """
  section = config.diffusion
  denoiser = networks.denoiser(config, platform)
  try:
    options = loss_lib.LossOptions(
        self_condition_probability=section.self_condition_probability,
        frame_condition_probability=section.frame_condition_probability,
        frame_condition_lengths=section.frame_condition_lengths,
        drop=conditions.DropProbabilities(
            label=section.drop_label, text=section.drop_text,
            frames=section.drop_frames,
            own=tuple((own.column, own.drop_probability)
                      for own in denoiser.conditions)),
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
  return result


def sampler_options(
    config: schema.DenoiserExperiment) -> samplers.SamplerOptions:
  """The sampler that evaluation and `walt sample` use by default.

  Raises:
    UserError: If it is factorized and the denoiser does not learn to be.
  """
  options = config.sampler
  if options.factorized and not can_factorize(config):
    raise errors.UserError(
        'config key sampler.factorized is True: that takes a denoiser that '
        'learns images (data.image_rows above 0) and to continue from one '
        'latent frame (model.frame_condition=True, '
        'diffusion.frame_condition_probability above 0 and 1 in '
        'diffusion.frame_condition_lengths); set those, or factorized=False')
  return options


def frame_lengths(config: schema.DenoiserExperiment) -> tuple[int, ...]:
  """Counts of given latent frames that a denoiser continues from; () for none.
  """
  if (config.model.frame_condition and
      config.diffusion.frame_condition_probability):
    return config.diffusion.frame_condition_lengths
  return ()


def can_factorize(config: schema.DenoiserExperiment) -> bool:
  """Whether a denoiser learns all that `SamplerOptions.factorized` takes."""
  return config.data.image_rows > 0 and 1 in frame_lengths(config)


def stage_sampler_of(
    built: denoiser_step.DenoiserObjective,
    config: schema.DenoiserExperiment) -> stage_sampler.StageSampler:
  """Builds what draws this stage's latents."""
  latents = config.latents
  return stage_sampler.StageSampler(
      denoiser=built.denoiser, schedule=built.schedule,
      prediction=built.prediction,
      shape=(latents.frames, latents.height, latents.width, latents.channels),
      self_condition=built.options.self_condition_probability > 0)
