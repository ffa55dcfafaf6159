"""`walt sample`: draws clips from trained stages."""
import argparse
import dataclasses
import time

import jax

from walt_jax.builders import pipelines
from walt_jax.builders import sampling_meshes
from walt_jax.commands import requests
from walt_jax.commands.flags import outputs
from walt_jax.core import paths
from walt_jax.core import progress
from walt_jax.parallel import compiler_options
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules
from walt_jax.parallel import session
from walt_jax.sampling import job as job_lib
from walt_jax.sampling import output as output_lib


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt sample --help`."""
  start = time.perf_counter()
  config = pipelines.read_denoiser(args.workdir[0], args.allow_code)
  mesh = sampling_meshes.sampling_mesh(
      config, args.mesh, multihost.local_devices())
  pipeline = requests.at_rate(dataclasses.replace(
      pipelines.load_pipeline(
          args.workdir, mesh, allow_code=args.allow_code),
      chunks=requests.chunks(args)), args.fps)
  job = job_lib.prepare(requests.sampling_job(args), pipeline)
  output = output_lib.Output(
      paths.path(args.out), animation=args.animation,
      all_stages=args.all_stages, made_by=outputs.made_by(args),
      settings=dict(
          seed=args.seed, requests=args.requests, animation=args.animation,
          processes=jax.process_count(), mesh=dict(mesh.shape),
          devices=[str(d) for d in mesh.devices.flat]))
  session.say('sample', mesh)
  _say(f'sampling: {mesh_lib.words(mesh)}{_together()}; compiler options: '
       f'{compiler_options.words(mesh_lib.platform(mesh))}')
  _say(f'weights: {sampling_meshes.weights_words(config, mesh)}')
  _say(f'decoding: {output_lib.decoding(pipeline, job).words}')
  with rules.activate(mesh), _Bars() as bars:
    output_lib.draw(pipeline, job, output, report=bars.report)
  count = len(job.requests)
  _say(f'{count} sample{"s" if count > 1 else ""} in {args.out} '
       f'({time.perf_counter() - start:.0f} s)')


def _say(line: str) -> None:
  """Prints a line once, whatever the number of processes."""
  if multihost.is_main():
    print(line, flush=True)


def _together() -> str:
  count = jax.process_count()
  return f' in each of {count} processes' if count > 1 else ''


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
    """Shows that a stage has drawn so many windows of this process's."""
    if not multihost.is_main():
      return
    if stage != self._name:
      self.__exit__()
      self._name, self._bar = stage, progress.bar(total, stage, 'window')
    self._bar.update(done - self._bar.n)
