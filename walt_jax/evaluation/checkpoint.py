"""FVD, FID and IS of a checkpoint: samples are drawn and scored, not written.

Samples are drawn in chunks of consecutive indices. The features of a chunk
become a file of the cache folder, whole or not at all, so that a job of tens
of thousands of samples continues where it stopped; a sample depends on its seed
and index alone. With several processes each draws every P-th chunk on its own
devices, into the folder that all of them share.
"""
from collections.abc import Iterator, Sequence
import dataclasses
import hashlib
import json
import pathlib
from typing import Any
import zipfile

import jax
import numpy as np

from walt_jax.builders import pipelines
from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import pixels as pixels_lib
from walt_jax.core import progress
from walt_jax.evaluation import requests as evaluation_requests
from walt_jax.evaluation import sets as sets_lib
from walt_jax.metrics import feature_network
from walt_jax.metrics import feature_sets
from walt_jax.metrics import video_features
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules
from walt_jax.sampling import cascade
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import settings as settings_lib
from walt_jax.training import workdir as workdir_lib

DEFAULT_SAMPLES = 256
_CHUNK = 128  # Samples whose features are one file of the cache.
_CLIPS = 'clips'  # Of a chunk whose samples are to be written too.


def score(request: evaluation_requests.EvaluationRequest) -> dict[str, Any]:
  """Scores samples of the checkpoints in `request.workdirs`."""
  drawing, step = request.drawing, request.drawing.step
  plan = sets_lib.Plan.of(request)
  _check_step(request.workdirs[0], step)
  mesh = _mesh()
  pipeline = pipelines.load_pipeline(request.workdirs, mesh, step=step)
  frames = _frames(plan, pipeline)
  network = plan.network(is_video=pipeline.plan().num_frames > 1,
                         devices=list(mesh.local_devices))
  real = (None if plan.metric == 'is' else
          sets_lib.Real.open(request, network))
  protocol = plan.protocol
  count = drawing.num_samples or protocol.num_generated or DEFAULT_SAMPLES
  repeats = drawing.repeats or protocol.repeats
  plan.check(network, real, num_generated=count, repeats=repeats,
             frames=frames)
  size = pipeline.size(-1)
  if real is not None and real.clips is not None and (
      real.clips[0].shape[1:3] != (size.height, size.width)):
    raise errors.UserError(
        f'--real has frames of {sets_lib.size_of(real.clips[0])} and '
        f'the samples are {size.height}x{size.width}; prepare the real clips '
        'at that size')
  reference = real and real.feature_set(plan, network, frames)
  drawer = _Drawer.of(request, pipeline, mesh, real)
  sets = []
  for repeat in range(repeats):
    job = _Job(drawer, network, request.seed + repeat, count, frames,
               sets_lib.cache_folder(request),
               keep_clips=bool(drawing.save_samples and repeat == 0))
    sets.append(job.run(plan.keep))
    if job.keep_clips and multihost.is_main():
      job.write_samples(pathlib.Path(drawing.save_samples))
  result = plan.result(reference, sets, network)
  result['real_split'] = request.measure.real_split or (real and real.split)
  return result | dict(samples=drawer.describe() | dict(
      seeds=[request.seed + repeat for repeat in range(repeats)]))


def _check_step(workdir: str, step: int | None) -> None:
  """Refuses a checkpoint that is not there, before any work."""
  if step is not None:
    workdir_lib.WorkDir(workdir).checkpoint(step)


def _mesh() -> jax.sharding.Mesh:
  """All devices; with several processes each its own."""
  if jax.process_count() == 1:
    return mesh_lib.make_mesh()
  return mesh_lib.make_mesh(devices=jax.local_devices())


def _frames(plan, pipeline) -> int:
  drawn = pipeline.plan().num_frames
  request = plan.request
  frames = request.frames or plan.protocol.frames or (
      video_features.scored_frames(drawn))
  if frames > drawn:
    raise errors.UserError(
        f'{frames} frames are to be scored, but {request.workdirs[-1]} draws '
        f'{drawn}; give --frames {drawn} or less')
  return frames


@dataclasses.dataclass(frozen=True, eq=False)
class _Drawer:
  """Draws sample number i of a seed.

  Attributes:
    pipeline: Its stages.
    mesh: Their devices.
    settings: One a stage.
    requests: Taken in turn.
    real: Clips whose first frames are given, or None.
    given_frames: How many of them.
    batch_size: Samples at once.
  """
  pipeline: pipeline_lib.Pipeline
  mesh: jax.sharding.Mesh
  settings: Sequence[pipeline_lib.StageSettings]
  requests: Sequence[requests_lib.Request]
  real: Any
  given_frames: int
  batch_size: int

  @classmethod
  def of(cls, request, pipeline, mesh, real) -> '_Drawer':
    if request.drawing.requests_file:
      requests = requests_lib.read(
          request.drawing.requests_file, request.seed)
    else:
      classes = pipeline.stages[0].classes
      requests = [requests_lib.Request(label=name) for name in classes] or [
          requests_lib.Request()]
    pipeline_lib.check_requests(pipeline, requests)
    given_frames = request.measure.given_frames
    if given_frames:
      _check_given(request, pipeline, real)
    batch_size = request.batch_size or settings_lib.DEFAULT_BATCH_SIZE
    return cls(
        pipeline, mesh,
        settings_lib.stage_settings(request.drawing.choice, pipeline),
        requests, real.clips if given_frames else None, given_frames,
        batch_size)

  def draw(self, seed: int, indices: range) -> Iterator[np.ndarray]:
    """Clips uint8 [T, H, W, 3] of the last stage."""
    requests = [
        dataclasses.replace(self.requests[i % len(self.requests)],
                            seed=seed, index=i) for i in indices]
    given = pipeline_lib.read_given(self.pipeline, requests)
    if self.real is not None:
      size = self.pipeline.size(-1)
      given = [pixels_lib.fit(self.real[i % len(self.real)]
                              [:self.given_frames], size.height, size.width)
               for i in indices]
    with rules.activate(self.mesh):
      outputs = cascade.run(
          self.pipeline, requests, self.settings, batch_size=self.batch_size,
          given=given, release=len(self.pipeline.stages) > 1)
      yield from cascade.decode(self.pipeline, outputs[-1], self.batch_size)

  def describe(self) -> dict[str, Any]:
    """How samples are drawn, for the result and for the cache's key."""
    stages = [dict(
        workdir=stage.workdir, step=stage.step, sha256=stage.params.sha256,
        weights=stage.weights, options=dataclasses.asdict(setting.options),
        guidance=setting.guidance.scales, noise_level=setting.noise_level)
              for stage, setting in zip(self.pipeline.stages, self.settings,
                                        strict=True)]
    return dict(
        stages=stages, tokenizer_sha256=self.pipeline.tokenizer.sha256,
        given_frames=self.given_frames,
        given_of=(str(self.real.path) if self.real is not None else None),
        requests=[dataclasses.asdict(r) for r in self.requests[:8]],
        num_requests=len(self.requests))

  def key(self) -> list[Any]:
    """What a sample depends on beside its seed and index."""
    found = self.describe()
    for stage in found['stages']:
      del stage['workdir']
    given = (sets_lib.fingerprint(str(self.real.path))
             if self.real is not None else None)
    return [found, given, [dataclasses.asdict(r) | dict(seed=0)
                           for r in self.requests]]


def _check_given(request, pipeline, real) -> None:
  shared = pipeline.plan().context_frames
  if real is None or real.clips is None:
    raise errors.UserError(
        '--given_frames takes them of the clips of --real; give clips, not '
        'statistics')
  base, given = pipeline.stages[0], request.measure.given_frames
  if given not in (1, shared) or not base.frame_lengths:
    raise errors.UserError(
        f'--given_frames {given}: {base.workdir} continues from '
        + (f'1 or {shared} frames' if base.frame_lengths else 'none'))


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
  drawer: _Drawer
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
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, self.count, _CHUNK)
    mine = starts[jax.process_index()::jax.process_count()]
    collector = feature_sets.Collector(self.network, keep)
    collector.frames = self.frames
    done = [first for first in mine if self._is_done(folder, first)]
    total = sum(map(self._size, mine))
    with progress.bar(total, f'samples of seed {self.seed}', 'sample',
                      initial=sum(map(self._size, done))) as bar:
      for first in mine:
        if first not in done:
          self._compute(folder, first, bar)
        arrays = self._read(folder, first)
        content = int(str(arrays['content']), 16)
        collector.add({name: arrays[name] for name in self.network.widths},
                      content)
    return collector.finish(chunk=_CHUNK)

  def write_samples(self, path: pathlib.Path) -> None:
    """Writes the clips of all chunks as `arr_0`, streaming."""
    folder, shape = self.folder, None
    with files.replaced_file(path) as partial, zipfile.ZipFile(
        partial, 'w', zipfile.ZIP_STORED, allowZip64=True) as archive:
      with archive.open('arr_0.npy', 'w', force_zip64=True) as file:
        for first in range(0, self.count, _CHUNK):
          clips = self._read(folder, first)[_CLIPS]
          if clips.shape[1] == 1:  # Images, as guidance's evaluator reads.
            clips = clips[:, 0]
          if shape is None:
            shape = (self.count, *clips.shape[1:])
            np.lib.format.write_array_header_1_0(file, dict(
                descr='|u1', fortran_order=False, shape=shape))
          file.write(np.ascontiguousarray(clips).tobytes())

  def _size(self, first: int) -> int:
    return min(_CHUNK, self.count - first)

  def _file(self, folder: pathlib.Path, first: int) -> pathlib.Path:
    return folder / f'{first:07d}.npz'

  def _is_done(self, folder: pathlib.Path, first: int) -> bool:
    """Whether the chunk's file holds what is wanted of it."""
    path = self._file(folder, first)
    if not path.is_file():
      return False
    with np.load(path, allow_pickle=False) as file:
      size = len(file[feature_network.FEATURES])
      return size == self._size(first) and (
          _CLIPS in file.files or not self.keep_clips)

  def _read(self, folder: pathlib.Path, first: int) -> dict[str, np.ndarray]:
    with np.load(self._file(folder, first), allow_pickle=False) as file:
      names = [n for n in file.files if n != _CLIPS or self.keep_clips]
      return {name: file[name] for name in names}

  def _compute(self, folder: pathlib.Path, first: int, bar) -> None:
    clips = []
    indices = range(first, first + self._size(first))
    for clip in self.drawer.draw(self.seed, indices):
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
    path = self._file(folder, first)
    with files.replaced_file(path) as partial, open(partial, 'wb') as file:
      np.savez(file, content=f'{content:032x}', **arrays)

