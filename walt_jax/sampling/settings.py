"""What may be chosen for each stage of a pipeline, checked."""
from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, TypeVar

from walt_jax.core import errors
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import rollout

Value = TypeVar('Value')

DEFAULT_BATCH_SIZE = 8


@dataclasses.dataclass(frozen=True)
class SamplerChoice:
  """How samples are drawn; None: as each stage's config says.

  Lists have one value, or one a stage.

  Attributes:
    steps: Sampling steps.
    sampler: Names of samplers.
    factorized: Whether the base draws the first frame alone, as an image.
    guidance: Scales by condition, in place of all of the config's; {} for no
      guidance, None for a stage as its config says.
    noise_level: Noise on the low-resolution input, in [0, 1], one for each
      super-resolution stage.
  """
  steps: Sequence[int] | None = None
  sampler: Sequence[str] | None = None
  factorized: bool | None = None
  guidance: Sequence[Mapping[str, float] | None] | None = None
  noise_level: Sequence[float] | None = None


def plan_of(pipeline: pipeline_lib.Pipeline,
            num_frames: int | None) -> rollout.Plan:
  """The windows of a clip of so many frames; None is one window."""
  try:
    return pipeline.plan(num_frames)
  except ValueError as e:
    raise errors.UserError(
        f'--num_frames {num_frames}: {e} Ask for at most '
        f'{pipeline.plan().window_frames}') from e


def stage_settings(choice: SamplerChoice, pipeline: pipeline_lib.Pipeline
                   ) -> list[pipeline_lib.StageSettings]:
  """Each stage's sampler, guidance and noise level, as they are chosen.

  Raises:
    UserError: For what a stage does not know, or lists of another length.
  """
  stages = pipeline.stages
  count = len(stages)
  if choice.noise_level and count == 1:
    raise errors.UserError(
        f'--noise_level {choice.noise_level[0]}: there is no super-resolution '
        'stage to give it to; leave it out, or give --workdir BASE,SR1')
  steps = per_stage(choice.steps, count, '--steps')
  names = per_stage(choice.sampler, count, '--sampler')
  scales = per_stage(choice.guidance, count, '--guidance')
  levels: list[float | None] = [None]
  levels += per_stage(choice.noise_level, max(count - 1, 1), '--noise_level')
  shared = bool(choice.guidance) and len(choice.guidance) == 1
  _check_factorized(choice.factorized, stages[0])
  found = []
  for i, stage in enumerate(stages):
    _check_noise(stage, levels[i])
    asked = dict(
        steps=steps[i], sampler=names[i], noise_level=levels[i],
        factorized=None if i else choice.factorized,
        guidance=_known_scales(stage, scales[i], lenient=shared and i > 0))
    found.append(_settings(stage, {
        name: value for name, value in asked.items() if value is not None}))
  return found


def _check_factorized(asked: bool | None,
                      base: pipeline_lib.TrainedStage) -> None:
  if asked and not base.can_factorize:
    raise errors.UserError(
        f'--factorized: {base.workdir} was not trained on images and to '
        'continue from one latent frame; leave it out, or train a base with '
        'data.image_rows above 0, model.frame_condition=True and 1 in '
        'diffusion.frame_condition_lengths')


def _check_noise(stage: pipeline_lib.TrainedStage,
                 level: float | None) -> None:
  """The network has no trained weights for a noise level above training's."""
  if level is not None and level > stage.most_noise:
    raise errors.UserError(
        f'--noise_level {level:g}: training of stage {stage.name} '
        f'({stage.workdir}) added noise up to level {stage.most_noise:g} '
        'alone (diffusion.max_low_res_level); give at most that')


def _known_scales(stage: pipeline_lib.TrainedStage,
                  scales: Mapping[str, float] | None, *, lenient: bool
                  ) -> dict[str, float] | None:
  """The scales of conditions that the stage has; None where none are asked.

  Args:
    stage: It.
    scales: Guidance scale by condition.
    lenient: Whether one list is for all stages: each takes what it knows.
  """
  if scales is None:
    return None
  for name in scales:
    if name not in stage.conditions and not lenient:
      known = ', '.join(sorted(stage.conditions)) or 'nothing'
      raise errors.UserError(
          f'--guidance {name}={scales[name]:g}: stage {stage.name} '
          f'({stage.workdir}) is conditioned on {known}')
    if name in stage.never_without and scales[name] != 1:
      raise errors.UserError(
          f'--guidance {name}={scales[name]:g}: training of stage {stage.name} '
          f'({stage.workdir}) never left {name} out, and guidance compares '
          'with samples without it; leave the scale out')
  return {k: v for k, v in scales.items() if k in stage.conditions}


def _settings(stage: pipeline_lib.TrainedStage, asked: Mapping[str, Any]
              ) -> pipeline_lib.StageSettings:
  """The stage's own settings but for what is asked, by `SETTINGS`."""
  defaults = stage.defaults
  names = dict(steps='num_steps', sampler='sampler', factorized='factorized')
  try:
    options = dataclasses.replace(defaults.options, **{
        names[name]: value for name, value in asked.items() if name in names})
    stage.sampler.schedule.path(options.num_steps)  # Or there is none.
    guidance = (defaults.guidance.with_scales(asked['guidance'])
                if 'guidance' in asked else defaults.guidance)
  except ValueError as e:
    raise errors.UserError(f'stage {stage.name}: {e}') from e
  return pipeline_lib.StageSettings(
      options, guidance, asked.get('noise_level', defaults.noise_level),
      frozenset(asked))


def per_stage(values: Sequence[Value] | None, num_stages: int, flag: str
              ) -> list[Value] | list[None]:
  """Spreads a flag over the stages of a pipeline.

  Args:
    values: Parsed values; one serves all stages, None is None for each.
    num_stages: Stages in the pipeline.
    flag: Name of the flag, for the message.

  Raises:
    errors.UserError: Neither one value nor one a stage.
  """
  if values is None:
    return [None] * num_stages
  if len(values) == 1:
    return list(values) * num_stages
  if len(values) != num_stages:
    raise errors.UserError(
        f'{flag} has {len(values)} values for {num_stages} stages; give one, '
        'or one a stage')
  return list(values)
