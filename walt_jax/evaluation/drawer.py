"""Samples of trained stages, drawn when they are looked at."""
from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from walt_jax.builders import pipelines
from walt_jax.builders import sampling_meshes
from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import made_by as made_by_lib
from walt_jax.core import paths
from walt_jax.core import pixels as pixels_lib
from walt_jax.evaluation import clip_files
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import requests as evaluation_requests
from walt_jax.evaluation import set_info
from walt_jax.media import samples
from walt_jax.parallel import multihost
from walt_jax.parallel import rules
from walt_jax.parallel import shares as shares_lib
from walt_jax.sampling import cascade
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import request_checks
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import rollout
from walt_jax.sampling import settings as settings_lib
from walt_jax.training import workdir as workdir_lib

CHUNK = 128  # Samples drawn and kept at a time.


def open_pipeline(request: evaluation_requests.EvaluationRequest
                  ) -> tuple[pipeline_lib.Pipeline, jax.sharding.Mesh]:
  """Loads the stages in `request.workdirs`.

  Returns:
    The stages and their devices: all; with several processes each its own.

  Raises:
    UserError: There are no such stages, or no such checkpoint.
  """
  step = request.drawing.step
  _check_step(request.workdirs[0], step)
  mesh = sampling_meshes.sampling_mesh(
      pipelines.read_denoiser(request.workdirs[0], request.allow_code),
      request.drawing.mesh, multihost.local_devices())
  return pipelines.load_pipeline(
      request.workdirs, mesh, step=step, allow_code=request.allow_code), mesh


def _check_step(workdir: str, step: int | None) -> None:
  """Refuses a checkpoint that is not there, before any work."""
  if step is not None:
    workdir_lib.WorkDir(workdir).checkpoint(step)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawer:
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
  def of(cls, request: evaluation_requests.EvaluationRequest,
         model: pipeline_lib.Pipeline, mesh: jax.sharding.Mesh, *,
         requests: Sequence[requests_lib.Request] = (),
         real: clip_sets.ClipSet | None = None) -> 'Drawer':
    """Prepares to draw what a request asks for.

    Args:
      request: What is asked for.
      model: Stages to draw from.
      mesh: Their devices.
      requests: What to draw, where the request names no file; each class in
        turn by default.
      real: Clips whose first frames may be given.

    Raises:
      UserError: For what the stages cannot do.
    """
    if request.drawing.requests_file:
      requests = requests_lib.read(
          request.drawing.requests_file, request.seed)
    classes = model.stages[0].classes
    requests = requests or [
        requests_lib.Request(label=name) for name in classes] or [
            requests_lib.Request()]
    request_checks.check_requests(model, requests)
    given_frames = request.measure.given_frames or 0
    if given_frames:
      _check_given(given_frames, model, real, requests)
    settings = settings_lib.stage_settings(request.drawing.choice, model)
    request_checks.tell_idle_guidance(
        model, requests, settings, model.plan(),
        frames_given=bool(given_frames))
    return cls(
        model, mesh, settings, requests, real if given_frames else None,
        given_frames,
        request.batch_size or settings_lib.DEFAULT_BATCH_SIZE)

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

  def shares(self, count: int) -> shares_lib.Shares:
    """How samples 0 .. count - 1 are dealt to the processes, in chunks."""
    return shares_lib.Shares.of(count, CHUNK, self.batch_size)

  def describe(self) -> dict[str, Any]:
    """How samples are drawn, for the result and for the cache's key."""
    stages = [dict(
        workdir=stage.workdir, step=stage.step, sha256=stage.params.sha256,
        weights=stage.weights, self_condition=stage.sampler.self_condition,
        options=dataclasses.asdict(setting.options),
        guidance=setting.guidance.scales, noise_level=setting.noise_level,
        origins=setting.origins, **({'guidance_shape': setting.guidance.shape}
                                    if setting.guidance.shape else {}))
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
    for stage, trained in zip(
        found['stages'], self.pipeline.stages, strict=True):
      del stage['workdir'], stage['origins']
      # Without the entry, keys of features that were right all along stay.
      if stage['self_condition'] == trained.sampler.denoiser.self_condition:
        del stage['self_condition']
    given = (clip_files.fingerprint(str(self.real.path))
             if self.real is not None else None)
    return [found, given, [dataclasses.asdict(r) | dict(seed=0)
                           for r in self.requests]]


def _check_given(given: int, pipeline: pipeline_lib.Pipeline,
                 real: clip_sets.ClipSet | None,
                 requests: Sequence[requests_lib.Request]) -> None:
  """The base must have learnt to continue so many frames of real clips."""
  asked, plan = f'--given_frames {given}', pipeline.plan()
  if real is None:
    raise errors.UserError(
        f'{asked} takes them of the clips of --real; give clips, not '
        'statistics')
  own = next((r.image or r.video for r in requests if r.image or r.video), '')
  if own:
    raise errors.UserError(
        f'{asked} gives frames of --real, and --requests gives {own!r}; leave '
        'one of them out')
  lengths = {1: 1, plan.context_frames: rollout.CONTEXT_LATENTS}
  if given not in lengths:
    raise errors.UserError(
        f'{asked}: a clip continues from 1 or {plan.context_frames} frames')
  request_checks.check_continues(
      pipeline.stages[0], lengths[given], asked, plan.window_frames)


def clip_info(pipeline: pipeline_lib.Pipeline) -> set_info.ClipInfo:
  """What is known of a pipeline's clips before they are drawn."""
  size, frames = pipeline.size(-1), pipeline.plan().num_frames
  rate = pipeline.rate
  return set_info.ClipInfo(size.height, size.width, frames, rate,
                           rate and frames / rate, lossless=True)


class DrawnClips:
  """Samples 0 .. N - 1 of a seed as a set of clips, drawn a chunk at a time.

  Attributes:
    path: The work directory that they are drawn from.
    entries: What each was asked to show.
    workdirs: The stages' work directories.
  """

  def __init__(self, drawer: Drawer, seed: int, count: int,
               save: str | None = None,
               made_by: made_by_lib.MadeBy | None = None):
    """Draws nothing yet; `save` names an .npz that gets all clips.

    Args:
      drawer: Draws them.
      seed: Seed of the noise.
      count: Number of clips.
      save: Path of an `.npz`, or None.
      made_by: What that file says of how it came to be.
    """
    self._drawer, self._seed, self._count = drawer, seed, count
    self._save, self._made_by = save, made_by
    self._chunk, self._clips = range(0), np.zeros(0, np.uint8)
    self.path = paths.path(drawer.pipeline.stages[0].workdir)
    asked = [drawer.requests[i % len(drawer.requests)] for i in range(count)]
    self.entries = tuple(
        samples.Entry(stem=f'{i:05d}', caption=request.prompt,
                      label=request.label or None, seed=seed, index=i)
        for i, request in enumerate(asked))
    self.workdirs = tuple(s.workdir for s in drawer.pipeline.stages)

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> np.ndarray:
    if not 0 <= index < self._count:
      raise IndexError(f'Clip {index} of {self._count}.')
    if index not in self._chunk:
      first = index // CHUNK * CHUNK
      self._chunk = range(first, min(first + CHUNK, self._count))
      self._clips = np.stack(list(self._drawer.draw(self._seed, self._chunk)))
    return self._clips[index - self._chunk.start]

  def __iter__(self) -> Iterator[np.ndarray]:
    return iter(self.stack() if self._save else
                (self[i] for i in range(self._count)))

  def length(self) -> int:
    """Frames of a clip."""
    return self._drawer.pipeline.plan().num_frames

  def clip_info(self, index: int) -> set_info.ClipInfo:
    """What is known of a sample before it is drawn."""
    del index  # All are alike.
    return clip_info(self._drawer.pipeline)

  def stack(self) -> np.ndarray:
    """All clips at once, uint8 [N, T, H, W, 3], in every process.

    Each draws its share.
    """
    shares = self._drawer.shares(self._count)
    drawn = ((clip,) for chunk in shares.batches()
             for clip in self._drawer.draw(self._seed, chunk))
    clips = {number: clip for number, (clip,) in shares.together(drawn)}
    result = np.stack([clips[number] for number in range(self._count)])
    if self._save and multihost.is_main():
      with files.replaced_file(self._save) as partial:
        with partial.open('wb') as to:
          np.savez(to, arr_0=result)
        if self._made_by is not None:
          self._made_by.into_npz(partial)
    return result
