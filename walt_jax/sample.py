"""`walt sample`: draws clips from trained stages."""
import argparse
import dataclasses
import pathlib
import time

import numpy as np

from walt_jax import errors
from walt_jax import flags
from walt_jax import progress
from walt_jax.builders import pipelines
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import schedules
from walt_jax.media import samples as samples_lib
from walt_jax.media import video
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib

DEFAULT_BATCH_SIZE = 8
# Of the low-resolution input: a little, so that a stage may mend what the one
# before got wrong.
DEFAULT_NOISE_LEVEL = 0.1


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt sample --help`."""
  start = time.perf_counter()
  mesh = mesh_lib.make_mesh()
  pipeline = pipelines.load_pipeline(args.workdir, mesh)
  requests = _requests(args, pipeline)
  pipeline_lib.check_requests(pipeline, requests)
  settings = stage_settings(args, pipeline)
  batch_size = args.batch_size or DEFAULT_BATCH_SIZE
  with rules.activate(mesh):
    outputs = run_stages(pipeline, requests, settings, batch_size)
  _write(args, pipeline, requests, settings, outputs, batch_size, start)


def _requests(args, pipeline) -> list[requests_lib.Request]:
  """What the flags ask for."""
  if args.requests:
    requests = requests_lib.read(args.requests, args.seed)
    if args.num_samples and args.num_samples > 1:
      requests = [dataclasses.replace(r, index=i) for i, r in enumerate(
          r for r in requests for _ in range(args.num_samples))]
    return requests
  count = args.num_samples or 1
  if args.label == 'all':
    classes = pipeline.stages[0].classes
    if not classes:
      raise errors.UserError(
          f'--label all: {pipeline.stages[0].workdir} was trained without '
          'labels; give --prompt')
    return [requests_lib.Request(label=label, seed=args.seed, index=i)
            for i, label in enumerate(
                label for label in classes for _ in range(count))]
  return requests_lib.repeat(
      args.prompt or '', args.label or '', args.seed, count)


def stage_settings(args, pipeline) -> list[pipeline_lib.StageSettings]:
  """Each stage's sampler, guidance and noise level from the flags."""
  stages = pipeline.stages
  count = len(stages)
  steps = flags.per_stage(args.steps, count, '--steps', None)
  names = flags.per_stage(args.sampler, count, '--sampler', None)
  scales = flags.per_stage(args.guidance, count, '--guidance', {})
  levels = [0.0] + flags.per_stage(
      args.noise_level, max(count - 1, 1), '--noise_level',
      DEFAULT_NOISE_LEVEL)
  settings = []
  for i, stage in enumerate(stages):
    changed = {}
    if steps[i]:
      changed['num_steps'] = steps[i]
    if names[i]:
      changed['sampler'] = names[i]
    try:
      options = dataclasses.replace(stage.defaults, **changed)
      schedules.trailing_steps(
          stage.sampler.schedule.num_steps, options.num_steps)
      settings.append(pipeline_lib.StageSettings(
          options=options,
          guidance=guidance_lib.Guidance(**scales[i]),
          noise_level=levels[i]))
    except ValueError as e:
      raise errors.UserError(f'stage {stage.name}: {e}') from e
  return settings


def run_stages(pipeline, requests, settings,
               batch_size: int) -> list[pipeline_lib.StageOutput]:
  """Runs all requests through every stage, showing progress."""
  outputs: list[pipeline_lib.StageOutput] = []
  for i, stage in enumerate(pipeline.stages):
    with progress.bar(len(requests), stage.name, 'sample') as bar:
      outputs.append(pipeline_lib.run_stage(
          pipeline, i, requests, settings[i],
          low_res=outputs[-1].latents if outputs else None,
          batch_size=batch_size,
          report=lambda done, bar=bar: bar.update(done - bar.n)))
  return outputs


def _write(args, pipeline, requests, settings, outputs, batch_size,
           start) -> None:
  """Decodes and writes every sample, with each stage's output beside it."""
  writer = samples_lib.SampleWriter(args.out, fps=pipeline.frame_rate)
  decoded = [pipeline_lib.decode(pipeline, output.latents, batch_size)
             for output in outputs]
  names = [stage.name for stage in pipeline.stages]
  shapes: dict[str, tuple[int, ...]] = {}
  clips_of_all = progress.track(
      zip(requests, *decoded, strict=True), 'write', 'sample', len(requests))
  for number, (request, *clips) in enumerate(clips_of_all):
    shapes = {name: np.shape(clip)
              for name, clip in zip(names, clips, strict=True)}
    entry = samples_lib.Entry(
        stem=f'{number:05d}', caption=request.prompt,
        label=request.label or None, seed=request.seed, index=request.index)
    writer.add(entry, clips[-1],
               stage_clips=dict(zip(names[:-1], clips[:-1], strict=True)))
    if args.animation and len(clips[-1]) > 1:
      video.write_animation(
          pathlib.Path(args.out) / f'{entry.stem}.{args.animation}',
          clips[-1], pipeline.frame_rate)
  records = [_record(stage, setting, output, shapes[stage.name], pipeline)
             for stage, setting, output in zip(
                 pipeline.stages, settings, outputs, strict=True)]
  writer.finish(stages=records, settings=dict(batch_size=batch_size),
                seconds=time.perf_counter() - start)
  print(f'{len(requests)} samples in {args.out} '
        f'({time.perf_counter() - start:.0f} s)', flush=True)


def _record(stage, setting, output, shape, pipeline
            ) -> samples_lib.StageRecord:
  return samples_lib.StageRecord(
      name=stage.name, workdir=stage.workdir, step=stage.step,
      sha256=stage.sha256, weights=stage.weights,
      sampler=setting.options.sampler, steps=setting.options.num_steps,
      guidance=setting.guidance.scales,
      noise_level=(setting.noise_level
                   if stage.sampler.denoiser.low_res_factor else None),
      shape=tuple(shape), seconds=output.seconds,
      compile_seconds=output.compile_seconds,
      tokenizer_sha256=pipeline.tokenizer.sha256)
