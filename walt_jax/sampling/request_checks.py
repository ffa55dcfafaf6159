"""What may be asked of trained stages: conditions that they learnt."""
from collections.abc import Sequence
import logging

from walt_jax.core import errors
from walt_jax.sampling import own_conditions
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import rollout
from walt_jax.text import limits

Pipeline = pipeline_lib.Pipeline
Request = requests_lib.Request
TrainedStage = pipeline_lib.TrainedStage


def check_requests(pipeline: Pipeline, requests: Sequence[Request],
                   plan: rollout.Plan | None = None) -> None:
  """Raises UserError for what the pipeline's stages cannot do.

  Prompts that the text encoder cuts, and samples for which neither prompt nor
  label nor a condition of the user's own is given though the base knows some,
  are told, a line each.

  Args:
    pipeline: Loaded stages.
    requests: One a sample.
    plan: Windows of the clips; one by default.
  """
  base, plan = pipeline.stages[0], plan or pipeline.plan()
  prompts = [prompt for r in requests for prompt in r.all_prompts]
  if prompts and not base.uses_text:
    other = 'give --label' if base.classes else 'leave the prompt out'
    raise errors.UserError(
        f'prompt {prompts[0]!r}: {base.workdir} was trained without text; '
        f'{other}')
  for request in requests:
    _check_label(pipeline, request)
    _check_changes(request, plan)
  if prompts:
    limits.warn(pipeline.text.tokenizer, list(dict.fromkeys(prompts)),
                'prompts')
  _check_frames(base, requests, plan)
  own_conditions.check(
      [own for stage in pipeline.stages
       for own in stage.sampler.denoiser.conditions], requests)
  _tell_unconditional(base, requests)


def _check_label(pipeline: Pipeline, request: Request) -> None:
  """A label must be a class of the base and of all stages with classes."""
  if not request.label:
    return
  for stage in pipeline.stages:
    is_base = stage is pipeline.stages[0]
    if request.label not in stage.classes and (is_base or stage.classes):
      known = ', '.join(stage.classes[:12]) or 'none'
      more = ', ..' if len(stage.classes) > 12 else ''
      raise errors.UserError(
          f'label {request.label!r} is no class of {stage.workdir}; '
          f'known: {known}{more}')


def _tell_unconditional(base: TrainedStage,
                        requests: Sequence[Request]) -> None:
  """Says once that samples are drawn without any condition that is learnt."""
  names = sorted(base.conditions - {'frames'})
  count = sum(not (r.label or r.all_prompts or r.conditions)
              for r in requests)
  if not names or not count:
    return
  untold = [name for name in names if name in base.never_without]
  logging.getLogger('walt_jax').warning(
      '%d of %d samples are drawn unconditionally: nothing is given of what '
      '%s is conditioned on (%s)%s.', count, len(requests), base.workdir,
      ', '.join(names), '; training never left out '
      f'{", ".join(untold)}, so that they mean nothing' if untold else '')


def tell_idle_guidance(
    pipeline: Pipeline, requests: Sequence[Request],
    settings: Sequence[pipeline_lib.StageSettings], plan: rollout.Plan, *,
    frames_given: bool = False) -> None:
  """Says where a scale that is asked for cannot change anything.

  Guidance compares with a pass without the condition: a sample that is not
  given it has two equal passes. A line for each condition; scales that the
  config has too are not told of, as they are for whatever is given.

  Args:
    pipeline: Loaded stages.
    requests: One a sample.
    settings: One a stage.
    plan: Windows of the clips.
    frames_given: Whether every sample is given frames, beside its request.
  """
  told: set[str] = set()
  for stage, setting in zip(pipeline.stages, settings, strict=True):
    if 'guidance' not in setting.asked:
      continue
    usual = stage.defaults.guidance.scales
    for name, scale in setting.guidance.scales.items():
      if name in told or usual.get(name) == scale or name == 'frames' and (
          frames_given or _has_frames(stage, setting, plan)):
        continue
      idle = sum(not _is_given(stage, name, r) for r in requests)
      if idle:
        told.add(name)
        logging.getLogger('walt_jax').warning(
            '--guidance %s=%g changes nothing in %d of %d samples: stage %s '
            'is given no %s for them.', name, scale, idle, len(requests),
            stage.name, name)


def _has_frames(stage: TrainedStage, setting: pipeline_lib.StageSettings,
                plan: rollout.Plan) -> bool:
  """Whether a stage continues from frames that it drew itself."""
  return setting.options.factorized or (
      plan.num_windows > 1 and rollout.CONTEXT_LATENTS in stage.frame_lengths)


def _is_given(stage: TrainedStage, name: str, request: Request) -> bool:
  """Whether a request gives a stage this condition."""
  given = dict(request.conditions) | dict(
      label=request.label, text=request.all_prompts,
      frames=(request.image and 1 in stage.frame_lengths or
              request.video and
              rollout.CONTEXT_LATENTS in stage.frame_lengths))
  return bool(given.get(name))


def _check_changes(request: Request, plan: rollout.Plan) -> None:
  """Every prompt of one that changes must be in force in some window."""
  followed = {request.prompt_at(plan.middle(window))
              for window in range(plan.num_windows)}
  for frame, prompt in request.prompts:
    if prompt not in followed:
      starts = [plan.first_new(w) for w in range(plan.num_windows)]
      raise errors.UserError(
          f'prompt {prompt!r} from frame {frame} on would never be followed: '
          f'of {plan.num_frames} frames, new windows begin at frames '
          f'{", ".join(map(str, starts))}; ask for more --num_frames or move '
          'it')


def _check_frames(base: TrainedStage, requests: Sequence[Request],
                  plan: rollout.Plan) -> None:
  """The base must have learnt to continue from what it is given."""
  needs = {1: next((r.image for r in requests if r.image), ''),
           rollout.CONTEXT_LATENTS: next(
               (r.video for r in requests if r.video), '')}
  if plan.num_windows > 1 and not needs[rollout.CONTEXT_LATENTS]:
    needs[rollout.CONTEXT_LATENTS] = f'--num_frames {plan.num_frames}'
  for length, asked in needs.items():
    if asked:
      check_continues(base, length, asked, plan.window_frames)


def check_continues(base: TrainedStage, length: int, asked: str,
                    window_frames: int) -> None:
  """Refuses given frames that a base did not learn to continue from.

  The sampler would leave them out, and what was asked for would not be used.

  Args:
    base: The first stage.
    length: Latent frames to be given.
    asked: What asks for that, for the message.
    window_frames: Frames that the base draws at once.

  Raises:
    UserError: The base was trained without them, with probability 0, or with
      other lengths.
  """
  if length in base.frame_lengths:
    return
  known = ' or '.join(map(str, base.frame_lengths)) or 'no'
  raise errors.UserError(
      f'{asked}: that takes a base that continues from {length} latent '
      f'frames, but {base.workdir} was trained to continue from {known}; '
      'train one with model.frame_condition=True, '
      'diffusion.frame_condition_probability above 0 and '
      f'diffusion.frame_condition_lengths with {length} in it (a window '
      f'alone has {window_frames} frames)')
