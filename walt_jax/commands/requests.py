"""Flags as the requests that sampling and evaluation take."""
import argparse
import dataclasses
import logging

from walt_jax.commands.flags import evaluate as evaluate_flags
from walt_jax.commands.flags import outputs
from walt_jax.evaluation import requests as evaluation_requests
from walt_jax.sampling import compiled_tokenizer
from walt_jax.sampling import job as job_lib
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import settings


def sampler_choice(args: argparse.Namespace) -> settings.SamplerChoice:
  """What the flags of `flags.sampling` choose."""
  return settings.SamplerChoice(
      steps=args.steps, sampler=args.sampler, factorized=args.factorized,
      guidance=args.guidance, noise_level=args.noise_level)


def chunks(args: argparse.Namespace) -> compiled_tokenizer.Chunks:
  """What the flags `--stream` and `--tile` choose."""
  return compiled_tokenizer.Chunks(args.stream, args.tile)


def at_rate(pipeline: pipeline_lib.Pipeline,
            fps: float | None) -> pipeline_lib.Pipeline:
  """The pipeline, its clips to be written at `--fps` where it is given."""
  if fps is not None:
    return dataclasses.replace(
        pipeline, frame_rate=fps, rate_origin='request')
  if pipeline.rate_origin == 'default' and pipeline.plan().num_frames > 1:
    logging.getLogger('walt_jax').warning(
        '%s does not say how many frames/s it was trained at: clips are '
        'written at %g; give --fps for another rate.',
        pipeline.stages[0].workdir, pipeline.frame_rate)
  return pipeline


def sampling_job(args: argparse.Namespace) -> job_lib.SamplingJob:
  """What `walt sample` is asked for."""
  return job_lib.SamplingJob(
      prompt=args.prompt or '', label=args.label or '',
      image=args.image or '', video=args.video or '',
      conditions=tuple(args.condition or ()),
      requests_file=args.requests or '', num_samples=args.num_samples or 1,
      num_frames=args.num_frames, seed=args.seed,
      choice=sampler_choice(args),
      batch_size=args.batch_size or settings.DEFAULT_BATCH_SIZE)


def evaluation_request(args: argparse.Namespace
                       ) -> evaluation_requests.EvaluationRequest:
  """What `walt evaluate METRIC` is asked for."""
  request = evaluation_requests.EvaluationRequest(
      metric=args.metric, real=args.real, generated=args.generated,
      workdirs=args.workdir or (), protocol=args.protocol,
      frames=args.frames, network=args.network, batch_size=args.batch_size,
      seed=args.seed, allow_code=args.allow_code,
      made_by=outputs.made_by(args))
  groups = evaluate_flags.groups(args.metric)
  if 'chunks' in groups:
    request = dataclasses.replace(request, chunks=chunks(args))
  if 'pairs' in groups:
    request = dataclasses.replace(request, lpips=args.lpips)
  if 'job' in groups:
    request = dataclasses.replace(request, cache=args.cache)
  if 'measure' in groups:
    request = dataclasses.replace(request, measure=_measure(args))
  if 'drawing' in groups:
    request = dataclasses.replace(request, drawing=_drawing(args))
  return request


def _measure(args: argparse.Namespace) -> evaluation_requests.Measure:
  return evaluation_requests.Measure(
      preprocessing=args.preprocessing, also=args.also,
      resamples=args.interval, num_splits=args.splits,
      real_split=args.real_split, given_frames=args.given_frames,
      save_statistics=args.save_statistics)


def _drawing(args: argparse.Namespace) -> evaluation_requests.Drawing:
  return evaluation_requests.Drawing(
      num_samples=args.num_samples, repeats=args.repeats,
      requests_file=args.requests, step=args.step,
      choice=sampler_choice(args), save_samples=args.save_samples,
      mesh=args.mesh)
