"""`walt sample`: draws clips from trained stages."""
import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np

import walt_jax
from walt_jax.builders import pipelines
from walt_jax.commands import flags
from walt_jax.core import errors
from walt_jax.core import progress
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import schedules
from walt_jax.media import contact_sheet
from walt_jax.media import samples as samples_lib
from walt_jax.media import video
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules
from walt_jax.sampling import cascade
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import rollout

DEFAULT_BATCH_SIZE = 8
# Of the low-resolution input: a little, so that a stage may mend what the one
# before got wrong.
DEFAULT_NOISE_LEVEL = 0.1
SHEET_FILE = 'contact_sheet.png'
_SHEET_CLIPS = 16


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt sample --help`."""
  start = time.perf_counter()
  mesh = mesh_lib.make_mesh()
  pipeline = pipelines.load_pipeline(args.workdir, mesh)
  requests = _requests(args, pipeline)
  plan = plan_of(pipeline, args.num_frames)
  pipeline_lib.check_requests(pipeline, requests, plan)
  settings = stage_settings(args, pipeline)
  given = pipeline_lib.read_given(pipeline, requests)
  _check_out(args.out)
  output = Output(
      pathlib.Path(args.out), animation=args.animation, settings=dict(
          seed=args.seed, requests=args.requests, animation=args.animation,
          devices=[str(d) for d in mesh.devices.flat]))
  with rules.activate(mesh), _Bars() as bars:
    draw(pipeline, requests, settings, output, plan=plan, given=given,
         batch_size=args.batch_size or DEFAULT_BATCH_SIZE, report=bars.report)
  print(f'{len(requests)} samples in {args.out} '
        f'({time.perf_counter() - start:.0f} s)', flush=True)


@dataclasses.dataclass(frozen=True)
class Output:
  """Where samples go.

  Attributes:
    folder: Gets clips, `samples.json` and a contact sheet.
    animation: 'gif' or 'webp' to be written too, or None.
    settings: What else `samples.json` is to say, JSON values.
  """
  folder: pathlib.Path
  animation: str | None = None
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def draw(pipeline: pipeline_lib.Pipeline,
         requests: Sequence[requests_lib.Request],
         settings: Sequence[pipeline_lib.StageSettings], output: Output, *,
         plan: rollout.Plan, given: cascade.Given, batch_size: int,
         report: cascade.Report, release: bool = True) -> None:
  """Draws all requests and writes them; see `cascade.run`."""
  start = time.perf_counter()
  outputs = cascade.run(
      pipeline, requests, settings, batch_size=batch_size, plan=plan,
      given=given, release=release, report=report)
  writer = _Writer(output, pipeline, settings, outputs)
  writer.write(requests, batch_size)
  writer.finish(dict(output.settings, batch_size=batch_size), start)


def _check_out(out: str) -> None:
  """Refuses, before any work, a folder that cannot be written to."""
  path = pathlib.Path(out)
  while not path.exists():
    path = path.parent
  if not path.is_dir() or not os.access(path, os.W_OK):
    raise errors.UserError(
        f'--out {out}: {path} is no folder that can be written to')


def _requests(args, pipeline) -> list[requests_lib.Request]:
  """What the flags ask for."""
  if args.requests:
    if args.image or args.video:
      raise errors.UserError(
          f'--requests {args.requests}: give image or video in its lines, not '
          'as a flag')
    requests = requests_lib.read(args.requests, args.seed)
    return requests_lib.number(
        [r for r in requests for _ in range(args.num_samples or 1)])
  request = requests_lib.Request(
      prompt=args.prompt or '', label=args.label or '', seed=args.seed,
      image=args.image or '', video=args.video or '')
  count = args.num_samples or 1
  if args.label != 'all':
    return requests_lib.repeat(request, count)
  classes = pipeline.stages[0].classes
  if not classes:
    raise errors.UserError(
        f'--label all: {pipeline.stages[0].workdir} was trained without '
        'labels; give --prompt')
  return requests_lib.number(
      [dataclasses.replace(request, label=label)
       for label in classes for _ in range(count)])


def plan_of(pipeline: pipeline_lib.Pipeline,
            num_frames: int | None) -> rollout.Plan:
  """The windows of a clip of so many frames; None is one window."""
  try:
    return pipeline.plan(num_frames)
  except ValueError as e:
    raise errors.UserError(
        f'--num_frames {num_frames}: {e} Ask for at most '
        f'{pipeline.plan().window_frames}') from e


def stage_settings(args, pipeline) -> list[pipeline_lib.StageSettings]:
  """Each stage's sampler, guidance and noise level from the flags."""
  stages = pipeline.stages
  count = len(stages)
  if args.noise_level and count == 1:
    raise errors.UserError(
        f'--noise_level {args.noise_level[0]}: there is no super-resolution '
        'stage to give it to; leave it out, or give --workdir BASE,SR1')
  steps = flags.per_stage(args.steps, count, '--steps', None)
  names = flags.per_stage(args.sampler, count, '--sampler', None)
  scales = flags.per_stage(args.guidance, count, '--guidance', {})
  levels = [0.0] + flags.per_stage(
      args.noise_level, max(count - 1, 1), '--noise_level',
      DEFAULT_NOISE_LEVEL)
  shared = bool(args.guidance) and len(args.guidance) == 1
  _check_factorized(args.factorized, stages[0])
  changes = [dict(num_steps=steps[i], sampler=names[i],
                  factorized=None if i else args.factorized)
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
        f'--factorized: {base.workdir} was not trained on images and to go on '
        'from one latent frame; leave it out, or train a base with '
        'data.image_rows above 0, model.frame_condition=True and 1 in '
        'diffusion.frame_condition_lengths')


def _known_scales(stage: pipeline_lib.TrainedStage,
                  scales: Mapping[str, float], *, lenient: bool
                  ) -> dict[str, float]:
  """The scales of conditions that the stage has.

  Args:
    stage: It.
    scales: By condition.
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
    schedules.trailing_steps(
        stage.sampler.schedule.num_steps, options.num_steps)
    return pipeline_lib.StageSettings(
        options=options, guidance=guidance_lib.Guidance(**scales),
        noise_level=level)
  except ValueError as e:
    raise errors.UserError(f'stage {stage.name}: {e}') from e


class _Bars:
  """One progress bar after the other, a stage each."""

  def __init__(self):
    self._name, self._bar = None, None

  def __enter__(self) -> '_Bars':
    return self

  def __exit__(self, *exception) -> None:
    if self._bar is not None:
      self._bar.close()

  def report(self, stage: str, done: int, total: int) -> None:
    """Shows that a stage has drawn so many windows."""
    if stage != self._name:
      self.__exit__()
      self._name, self._bar = stage, progress.bar(total, stage, 'window')
    self._bar.update(done - self._bar.n)


class _Writer:
  """Decodes and writes every sample, with each stage's output beside it."""

  def __init__(self, output: Output, pipeline: pipeline_lib.Pipeline,
               settings: Sequence[pipeline_lib.StageSettings],
               outputs: Sequence[cascade.StageOutput]):
    self._out, self._animation = output.folder, output.animation
    self._pipeline, self._settings = pipeline, settings
    self._outputs = outputs
    self._writer = samples_lib.SampleWriter(
        self._out, fps=pipeline.frame_rate)
    self._shapes: dict[str, tuple[int, ...]] = {}

  def write(self, requests: Sequence[requests_lib.Request],
            batch_size: int) -> None:
    """Writes all clips, and the first ones on a contact sheet."""
    names = [stage.name for stage in self._pipeline.stages]
    decoded = [cascade.decode(self._pipeline, output, batch_size)
               for output in self._outputs]
    shown: list[np.ndarray] = []
    clips_of_all = progress.track(
        zip(requests, *decoded, strict=True), 'write', 'sample',
        len(requests))
    for number, (request, *clips) in enumerate(clips_of_all):
      self._shapes = {name: np.shape(clip) for name, clip in
                      zip(names, clips, strict=True)}
      entry = samples_lib.Entry(
          stem=f'{number:05d}', caption=request.prompt,
          label=request.label or None, seed=request.seed,
          index=request.index, prompts=request.prompts,
          source=request.image or request.video or None)
      self._writer.add(
          entry, clips[-1],
          stage_clips=dict(zip(names[:-1], clips[:-1], strict=True)))
      if self._animation and len(clips[-1]) > 1:
        video.write_animation(
            self._out / f'{entry.stem}.{self._animation}', clips[-1],
            self._pipeline.frame_rate)
      if number < _SHEET_CLIPS:
        shown.append(clips[-1])
    video.write_png(self._out / SHEET_FILE, contact_sheet.contact_sheet(
        shown, [_caption(r) for r in requests[:_SHEET_CLIPS]]))

  def finish(self, settings: Mapping[str, Any], start: float) -> None:
    """Writes `samples.json`: how each clip came to be."""
    pipeline, plan = self._pipeline, self._outputs[0].plan
    text = pipeline.text
    settings = dict(
        settings, num_frames=plan.num_frames, windows=plan.num_windows,
        window_frames=plan.window_frames,
        context_frames=plan.context_frames if plan.num_windows > 1 else 0,
        text_encoder=None if text is None else dict(
            name=text.name, sha256=text.sha256, max_tokens=text.max_tokens),
        version=walt_jax.__version__, jax=jax.__version__)
    self._writer.finish(
        stages=[self._record(i) for i in range(len(pipeline.stages))],
        settings=settings, seconds=time.perf_counter() - start)

  def _record(self, index: int) -> samples_lib.StageRecord:
    stage, setting = self._pipeline.stages[index], self._settings[index]
    output = self._outputs[index]
    return samples_lib.StageRecord(
        name=stage.name, workdir=stage.workdir, step=stage.step,
        sha256=stage.params.sha256, weights=stage.weights,
        sampler=setting.options.sampler, steps=setting.options.num_steps,
        guidance=setting.guidance.scales,
        noise_level=(setting.noise_level
                     if stage.sampler.denoiser.low_res_factor else None),
        shape=tuple(self._shapes[stage.name]), seconds=output.seconds,
        compile_seconds=output.compile_seconds,
        tokenizer_sha256=self._pipeline.tokenizer.sha256,
        sampler_options=dataclasses.asdict(setting.options),
        windows=('' if output.plan.num_windows == 1 else
                 'blended' if output.blend else 'continued'))


def _caption(request: requests_lib.Request) -> str:
  """What stands beside a clip on the contact sheet."""
  if request.prompts:
    return ' '.join(f'{frame}: {text}' for frame, text in request.prompts)
  return request.prompt or request.label or f'seed {request.seed}'
