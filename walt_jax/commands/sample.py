"""`walt sample`: draws clips from trained stages."""
import argparse
import dataclasses
import os
import pathlib
import time

from walt_jax.builders import pipelines
from walt_jax.core import errors
from walt_jax.core import progress
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules
from walt_jax.sampling import output as output_lib
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import settings as settings_lib


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt sample --help`."""
  start = time.perf_counter()
  mesh = mesh_lib.make_mesh()
  pipeline = pipelines.load_pipeline(
      args.workdir, mesh, allow_code=args.allow_code)
  requests = _requests(args, pipeline)
  plan = settings_lib.plan_of(pipeline, args.num_frames)
  pipeline_lib.check_requests(pipeline, requests, plan)
  settings = settings_lib.stage_settings(args, pipeline)
  given = pipeline_lib.read_given(pipeline, requests)
  _check_out(args.out)
  output = output_lib.Output(
      pathlib.Path(args.out), animation=args.animation, settings=dict(
          seed=args.seed, requests=args.requests, animation=args.animation,
          devices=[str(d) for d in mesh.devices.flat]))
  with rules.activate(mesh), _Bars() as bars:
    output_lib.draw(
        pipeline, requests, settings, output, plan=plan, given=given,
        batch_size=args.batch_size or settings_lib.DEFAULT_BATCH_SIZE,
        report=bars.report)
  print(f'{len(requests)} samples in {args.out} '
        f'({time.perf_counter() - start:.0f} s)', flush=True)


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
