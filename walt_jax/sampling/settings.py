"""What may be chosen for each stage of a pipeline, checked."""
from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, TypeVar

from walt_jax.core import errors
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import rollout

Value = TypeVar('Value')

DEFAULT_BATCH_SIZE = 8
# Of the low-resolution input: a little, so that a stage may fix what the one
# before got wrong.
DEFAULT_NOISE_LEVEL = 0.1


@dataclasses.dataclass(frozen=True)
class SamplerChoice:
  """How samples are drawn; lists have one value, or one a stage.

  Attributes:
    steps: Sampling steps; None: as the stage's config says.
    sampler: Names of samplers; None likewise.
    factorized: Whether the base draws the first frame alone, as an image;
      None likewise.
    guidance: Scales by condition; None: no guidance.
    noise_level: Noise on the low-resolution input, in [0, 1], one for each
      super-resolution stage; None: `DEFAULT_NOISE_LEVEL`.
  """
  steps: Sequence[int] | None = None
  sampler: Sequence[str] | None = None
  factorized: bool | None = None
  guidance: Sequence[Mapping[str, float]] | None = None
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
  steps = per_stage(choice.steps, count, '--steps', None)
  names = per_stage(choice.sampler, count, '--sampler', None)
  scales = per_stage(choice.guidance, count, '--guidance', {})
  levels = [0.0] + per_stage(
      choice.noise_level, max(count - 1, 1), '--noise_level',
      DEFAULT_NOISE_LEVEL)
  shared = bool(choice.guidance) and len(choice.guidance) == 1
  _check_factorized(choice.factorized, stages[0])
  changes = [dict(num_steps=steps[i], sampler=names[i],
                  factorized=None if i else choice.factorized)
             for i in range(count)]
  return [
      _settings(stage, changes[i],
                _known_scales(stage, scales[i], lenient=shared and i > 0),
                levels[i])
      for i, stage in enumerate(stages)]


def _check_factorized(asked: bool | None,
                      base: pipeline_lib.TrainedStage) -> None:
  if asked and not base.can_factorize:
    raise errors.UserError(
        f'--factorized: {base.workdir} was not trained on images and to '
        'continue from one latent frame; leave it out, or train a base with '
        'data.image_rows above 0, model.frame_condition=True and 1 in '
        'diffusion.frame_condition_lengths')


def _known_scales(stage: pipeline_lib.TrainedStage,
                  scales: Mapping[str, float], *, lenient: bool
                  ) -> dict[str, float]:
  """The scales of conditions that the stage has.

  Args:
    stage: It.
    scales: Guidance scale by condition.
    lenient: Whether one list is for all stages: each takes what it knows.
  """
  for name in scales:
    if name not in stage.conditions and not lenient:
      known = ', '.join(sorted(stage.conditions)) or 'nothing'
      raise errors.UserError(
          f'--guidance {name}={scales[name]:g}: stage {stage.name} '
          f'({stage.workdir}) is conditioned on {known}')
  return {k: v for k, v in scales.items() if k in stage.conditions}


def _settings(stage, changes: Mapping[str, Any], scales, level
              ) -> pipeline_lib.StageSettings:
  """The stage's own sampler but for what is not None in `changes`."""
  try:
    options = dataclasses.replace(stage.defaults, **{
        name: value for name, value in changes.items() if value is not None})
    stage.sampler.schedule.path(options.num_steps)  # Or there is none.
    return pipeline_lib.StageSettings(
        options=options, guidance=guidance_lib.of(scales),
        noise_level=level)
  except ValueError as e:
    raise errors.UserError(f'stage {stage.name}: {e}') from e


def per_stage(values: Sequence[Value] | None, num_stages: int, flag: str,
              default: Value) -> list[Value]:
  """Spreads a flag over the stages of a pipeline.

  Args:
    values: Parsed values; one serves all stages, None means `default`.
    num_stages: Stages in the pipeline.
    flag: Name of the flag, for the message.
    default: Where the flag was not given.

  Raises:
    errors.UserError: Neither one value nor one a stage.
  """
  if values is None:
    return [default] * num_stages
  if len(values) == 1:
    return list(values) * num_stages
  if len(values) != num_stages:
    raise errors.UserError(
        f'{flag} has {len(values)} values for {num_stages} stages; give one, '
        'or one a stage')
  return list(values)
