"""FVD, FID and IS of a checkpoint: samples are drawn and scored, not written.

Samples are drawn in chunks of consecutive indices. The features of a chunk
become a file of the cache folder, whole or not at all, so that a job of tens
of thousands of samples continues where it stopped; a sample depends on its seed
and index alone. With several processes each draws every P-th chunk on its own
devices, into the folder that all of them share; where there are fewer chunks
than processes, they are smaller.
"""
from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import hashlib
import json
import pathlib
from typing import Any
import zipfile

import numpy as np

from walt_jax.core import array_files
from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import made_by as made_by_lib
from walt_jax.core import paths
from walt_jax.core import progress
from walt_jax.core import scratch
from walt_jax.core import seeds
from walt_jax.evaluation import drawer as drawer_lib
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import plan as plan_lib
from walt_jax.evaluation import real as real_lib
from walt_jax.evaluation import real_draws
from walt_jax.metrics import feature_network
from walt_jax.metrics import feature_sets
from walt_jax.metrics import video_features
from walt_jax.parallel import multihost
from walt_jax.sampling import pipeline as pipeline_lib

_CLIPS = 'clips'  # Of a chunk whose samples are to be written too.


def score(plan: plan_lib.Plan) -> dict[str, Any]:
  """Scores samples of the inputs' stages."""
  inputs, request, drawing = plan.inputs, plan.request, plan.request.drawing
  pipeline, mesh = opened = inputs.pipeline()
  frames = _frames(plan, pipeline)
  network = plan.score.network(
      plan, is_video=pipeline.plan().num_frames > 1,
      devices=list(mesh.local_devices))
  real = (real_lib.Real(inputs, network, frames) if plan.score.uses_real
          else None)
  protocol = plan.protocol
  count = (drawing.num_samples or protocol.num_generated
           or inputs_lib.DEFAULT_SAMPLES)
  repeats = drawing.repeats or protocol.repeats
  seeds.check(request.seed + repeats - 1, f'seed {repeats} of --repeats')
  size = pipeline.size(-1)
  plan.check(network, real, num_generated=count, repeats=repeats,
             frames=frames, size=(size.height, size.width))
  # Refuses what the stages cannot do, before any network runs.
  drawers = [inputs.drawer(opened, real.clips if real else None,
                           _requests(plan, pipeline, frames, repeat))
             for repeat in range(repeats if protocol.draw else 1)]
  references = real and real.feature_sets(plan, network, frames, repeats)
  sets = []
  with _feature_folder(inputs) as cache:
    for repeat in range(repeats):
      job = _Job(drawers[repeat % len(drawers)], network,
                 request.seed + repeat, count, frames, cache,
                 keep_clips=bool(drawing.save_samples and repeat == 0))
      sets.append(job.run(plan.keep))
      if job.keep_clips and multihost.is_main():
        job.write_samples(paths.path(drawing.save_samples), request.made_by)
  result = plan.result(references, sets, network)
  result |= real.describe() if real else {}
  result['real_split'] = request.measure.real_split or (real and real.split)
  return result | dict(samples=drawers[0].describe() | dict(
      seeds=[request.seed + repeat for repeat in range(repeats)]))


def _requests(plan: plan_lib.Plan, pipeline: pipeline_lib.Pipeline,
              frames: int, repeat: int) -> Sequence[Any]:
  """What a protocol has the samples of a set show; empty where it does not."""
  draw = plan.protocol.draw
  if draw is None:
    return ()
  if plan.request.drawing.requests_file:
    raise errors.UserError(
        f'--requests: protocol {plan.protocol.name} has samples show the '
        'classes of its real clips; leave it out')
  if draw.asks != 'prompt' and not pipeline.stages[0].classes:
    return ()
  return real_draws.requests(
      plan.protocol, plan.inputs.drawn_real(frames, repeat), pipeline)


@contextlib.contextmanager
def _feature_folder(inputs: inputs_lib.Inputs) -> Iterator[pathlib.Path]:
  """The folder of the samples' features; of a model in training not kept."""
  if inputs.model is not None:
    with scratch.folder('features') as folder:
      yield folder
  else:
    assert inputs.cache is not None  # There are workdirs.
    yield inputs.cache


def _frames(plan: plan_lib.Plan, pipeline: pipeline_lib.Pipeline) -> int:
  """Frames that are scored of each sample."""
  drawn = pipeline.plan().num_frames
  request = plan.request
  frames = request.frames or plan.protocol.frames or (
      video_features.scored_frames(drawn))
  if frames > drawn:
    raise errors.UserError(
        f'{frames} frames are to be scored, but '
        f'{pipeline.stages[-1].workdir} draws {drawn}; give --frames {drawn} '
        'or less')
  return frames


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
  """Features of samples 0 .. count - 1 of one seed.

  Attributes:
    drawer: Draws them.
    network: Network that computes the features.
    seed: Random seed of the samples.
    count: How many.
    frames: Scored of each.
    cache: Folder of the chunks' files.
    keep_clips: Whether the files hold the clips too.
  """
  drawer: drawer_lib.Drawer
  network: feature_network.FeatureNetwork
  seed: int
  count: int
  frames: int
  cache: pathlib.Path
  keep_clips: bool

  @property
  def folder(self) -> pathlib.Path:
    """Of this job; `count` may grow from run to run."""
    key = json.dumps([
        self.drawer.key(), self.network.info.name, self.network.info.sha256,
        self.network.preprocessing, self.seed, self.frames])
    return self.cache / (
        f'samples_{hashlib.sha256(key.encode()).hexdigest()[:16]}')

  def run(self, keep: Sequence[str]) -> feature_sets.FeatureSet:
    """Draws what is missing and adds all up."""
    folder = self.folder
    paths.make_folder(folder)
    shares = self.drawer.shares(self.count)
    mine = shares.batches()
    collector = feature_sets.Collector(self.network, keep)
    collector.frames = self.frames
    done = [chunk for chunk in mine if self._is_done(folder, chunk)]
    with progress.bar(sum(map(len, mine)), f'samples of seed {self.seed}',
                      'sample', initial=sum(map(len, done))) as bar:
      for chunk in mine:
        if chunk not in done:
          self._compute(folder, chunk, bar)
        arrays = self._read(folder, chunk.start)
        content = int(str(arrays['content']), 16)
        collector.add({name: arrays[name] for name in self.network.widths},
                      content)
    return collector.finish(chunk=shares.batch)

  def write_samples(self, path: pathlib.Path,
                    made_by: made_by_lib.MadeBy | None) -> None:
    """Writes the clips of all chunks as `arr_0`, streaming."""
    with files.replaced_file(path) as partial:
      self._write_clips(partial)
      if made_by is not None:
        made_by.into_npz(partial)

  def _write_clips(self, path: pathlib.Path) -> None:
    folder, shape = self.folder, None
    with zipfile.ZipFile(
        path, 'w', zipfile.ZIP_STORED, allowZip64=True) as archive:
      with archive.open('arr_0.npy', 'w', force_zip64=True) as file:
        chunk = self.drawer.shares(self.count).batch
        for first in range(0, self.count, chunk):
          clips = self._read(folder, first)[_CLIPS]
          if clips.shape[1] == 1:  # Images, as guidance's evaluator reads.
            clips = clips[:, 0]
          if shape is None:
            shape = (self.count, *clips.shape[1:])
            np.lib.format.write_array_header_1_0(file, dict(
                descr='|u1', fortran_order=False, shape=shape))
          file.write(np.ascontiguousarray(clips).tobytes())

  def _file(self, folder: pathlib.Path, first: int) -> pathlib.Path:
    return folder / f'{first:07d}.npz'

  def _is_done(self, folder: pathlib.Path, chunk: range) -> bool:
    """Whether the chunk's file holds what is wanted of it."""
    path = self._file(folder, chunk.start)
    if not path.is_file():
      return False
    try:
      # One that is damaged is drawn again.
      with array_files.explained(), files.opened(path) as raw, np.load(
          raw, allow_pickle=False) as file:
        size = len(file[feature_network.FEATURES])
        return size == len(chunk) and (
            _CLIPS in file.files or not self.keep_clips)
    except ValueError:
      return False

  def _read(self, folder: pathlib.Path, first: int) -> dict[str, np.ndarray]:
    path = self._file(folder, first)
    try:
      with files.opened(path) as raw:
        return array_files.read_members(
            raw, () if self.keep_clips else (_CLIPS,))
    except ValueError as error:
      raise errors.UserError(
          f'{str(path)!r} is {errors.words(error)}; remove it, and run the '
          'same command again') from error

  def _compute(self, folder: pathlib.Path, chunk: range, bar) -> None:
    clips = []
    for clip in self.drawer.draw(self.seed, chunk):
      clips.append(clip)
      bar.update()
    scored = [np.ascontiguousarray(clip[:self.frames]) for clip in clips]
    parts = list(self.network.batches(scored, total=len(scored)))
    arrays: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts])
        for name in self.network.widths}
    if self.keep_clips:
      arrays[_CLIPS] = np.stack(clips)
    content = feature_sets.content_of(scored) % 2 ** 128
    path = self._file(folder, chunk.start)
    with files.replaced_file(path) as partial, open(partial, 'wb') as file:
      np.savez(file, content=f'{content:032x}', **arrays)

