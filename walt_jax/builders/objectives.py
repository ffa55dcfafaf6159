"""Schedules, losses, optimizers and samplers from their config sections."""
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.core import conditions
from walt_jax.core import errors
from walt_jax.diffusion import loss as loss_lib
from walt_jax.diffusion import prediction as prediction_lib
from walt_jax.diffusion import schedules
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import stage_sampler
from walt_jax.training import denoiser_step

# Of the low-resolution input: a little, so that a stage may fix what the one
# before got wrong; never more than it was trained with.
DEFAULT_NOISE_LEVEL = 0.1
_DROPS = {name: f'diffusion.drop_{name}' for name in conditions.CONDITIONS}


def objective(config: schema.DenoiserExperiment,
              platform: str, num_shards: int = 1,
              ) -> denoiser_step.DenoiserObjective:
  """Builds the denoiser of a config with its schedule and loss.

  Args:
    config: Sections model, diffusion, text and data are read.
    platform: Decides the forms of layers.
    num_shards: Shards of the batch.

  Raises:
    UserError: On values that contradict each other.
  """
  section = config.diffusion
  group = section.self_condition_group
  if group > 1 and config.data.image_rows:
    raise errors.UserError(
        f'config key diffusion.self_condition_group is {group}, but with '
        f'data.image_rows={config.data.image_rows} which rows are neighbours '
        'depends on the mesh; set it to 1')
  parts = num_shards * config.optimizer.accumulation_steps
  denoiser = networks.denoiser(config, platform)
  try:
    options = loss_lib.LossOptions(
        self_condition_probability=section.self_condition_probability,
        self_condition_group=group,
        groups_in_shards=(
            group > 1 and config.data.batch_size % (parts * group) == 0),
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


def stage_settings(
    config: schema.DenoiserExperiment) -> pipeline_lib.StageSettings:
  """How samples are drawn wherever nothing else is asked for.

  Raises:
    UserError: What the denoiser does not learn: to be factorized, a condition
      that is guided, or to be without it; noise on an input that it lacks, or
      more of it than in training.
  """
  section = config.sampler
  if section.factorized and not can_factorize(config):
    raise errors.UserError(
        'config key sampler.factorized is True: that takes a denoiser that '
        'learns images (data.image_rows above 0) and to continue from one '
        'latent frame (model.frame_condition=True, '
        'diffusion.frame_condition_probability above 0 and 1 in '
        'diffusion.frame_condition_lengths); set those, or factorized=False')
  guidance = (section.guidance or schema.Guidance()).build()
  for name, scale in guidance.scales.items():
    _check_guided(config, name, scale)
  level, most = section.noise_level, most_noise(config)
  if level is None:
    level = min(DEFAULT_NOISE_LEVEL, most)
  elif not config.model.low_res_factor:
    raise errors.UserError(
        f'config key sampler.noise_level is {level:g}, but a base has no '
        'low-resolution input; leave it out')
  elif level > most:
    raise errors.UserError(
        f'config key sampler.noise_level is {level:g}, but training adds '
        f'noise up to level {most:g} alone (diffusion.max_low_res_level); '
        'give at most that, or train with more')
  return pipeline_lib.StageSettings(section.options, guidance, level)


def most_noise(config: schema.DenoiserExperiment) -> float:
  """Highest noise level of the low-resolution input that a denoiser learns.
  """
  if not config.model.low_res_factor:
    return 0.0
  return config.diffusion.max_low_res_level


def _check_guided(config: schema.DenoiserExperiment, name: str,
                  scale: float) -> None:
  """A condition that is guided must be one that is learnt, and left out."""
  key = f'config key sampler.guidance.{name} is {scale:g}'
  learnt = learnt_conditions(config)
  if name not in learnt:
    raise errors.UserError(
        f'{key}, but the denoiser is conditioned on '
        f'{", ".join(sorted(learnt)) or "nothing"}; leave it out')
  if not learnt[name]:
    raise errors.UserError(
        f'{key}, but the denoiser never learns to be without: set the '
        'probability that it is left out in training above 0 '
        f'({_DROPS.get(name, "drop_probability of its class")}), or leave '
        'the scale out')


def learnt_conditions(config: schema.DenoiserExperiment) -> dict[str, bool]:
  """The conditions of a denoiser, and whether it learns to be without each.

  That is what guidance by it, and drawing without it, take.
  """
  section, model = config.diffusion, config.model
  frames = section.frame_condition_probability
  has = dict(
      label=(bool(model.num_classes), section.drop_label),
      text=(bool(config.text.name), section.drop_text),
      # A row without given frames is one that is left without them.
      frames=(bool(frame_lengths(config)), section.drop_frames or 1 - frames))
  return {name: chance > 0 for name, (there, chance) in has.items()
          if there} | {
              own.column: own.drop_probability > 0
              for own in networks.own_conditions(model.conditions)}


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
