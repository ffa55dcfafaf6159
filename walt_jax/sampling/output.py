"""Writing of samples: clips, `samples.json`, a contact sheet."""
from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import pathlib
import time
from typing import Any

import jax
import numpy as np

import walt_jax
from walt_jax.core import made_by as made_by_lib
from walt_jax.core import progress
from walt_jax.media import contact_sheet
from walt_jax.media import samples as samples_lib
from walt_jax.media import video
from walt_jax.parallel import multihost
from walt_jax.parallel import shares as shares_lib
from walt_jax.sampling import cascade
from walt_jax.sampling import job as job_lib
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import tokenizer_forms

SHEET_FILE = 'contact_sheet.png'
_SHEET_CLIPS = 16


@dataclasses.dataclass(frozen=True)
class Output:
  """Where samples go.

  Attributes:
    folder: Gets clips, `samples.json` and a contact sheet.
    animation: 'gif' or 'webp' to be written too, or None.
    all_stages: Whether clips of the earlier stages are decoded and written
      beside those of the last.
    made_by: What a file of the folder says of how it came to be, or None.
    settings: What else `samples.json` is to say, JSON values.
  """
  folder: pathlib.Path
  animation: str | None = None
  all_stages: bool = False
  made_by: made_by_lib.MadeBy | None = None
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def draw(pipeline: pipeline_lib.Pipeline, job: job_lib.PreparedJob,
         output: Output, *, report: cascade.Report,
         release: bool = True) -> None:
  """Draws all requests of a job and writes them; see `cascade.run`.

  With several processes each draws its share on its own devices, and the
  first writes.
  """
  start = time.perf_counter()
  shares = shares_lib.Shares.of(len(job.requests), job.batch_size)
  mine = shares.padded()
  outputs = cascade.run(
      pipeline, [job.requests[i] for i in mine], job.settings,
      batch_size=shares.batch, plan=job.plan,
      given=[job.given[i] for i in mine], release=release,
      report=report) if mine else []
  clips = shares.together(_clips(
      pipeline, outputs, shares.batch, all_stages=output.all_stages))
  if not multihost.is_main():
    for _ in clips:  # They are sent as they are asked for.
      pass
    return
  writer = _Writer(output, pipeline, job.settings, outputs)
  writer.write(job.requests, clips)
  writer.finish(dict(output.settings, batch_size=job.batch_size), start)


def decoding(pipeline: pipeline_lib.Pipeline, job: job_lib.PreparedJob
             ) -> tokenizer_forms.Choice:
  """How clips of the last stage will be decoded, before anything is drawn."""
  shares = shares_lib.Shares.of(len(job.requests), job.batch_size)
  return pipeline.codec.choice(
      'decode', (shares.batch, *pipeline.stages[-1].sampler.shape))


def _clips(pipeline: pipeline_lib.Pipeline,
           outputs: Sequence[cascade.StageOutput], batch_size: int, *,
           all_stages: bool) -> Iterator[shares_lib.Arrays]:
  """Of each sample: its clips by stage, and how many frames were given."""
  if not outputs:
    return
  given = outputs[0].kept  # What the base continued from.
  decoded = [cascade.decode(pipeline, output, batch_size)
             for output in (outputs if all_stages else outputs[-1:])]
  for number, clips in enumerate(zip(*decoded, strict=True)):
    kept = given[number]
    yield *clips, np.array([0 if kept is None else len(kept)], np.int32)


class _Writer:
  """Writes every sample, and what earlier stages drew if asked."""

  def __init__(self, output: Output, pipeline: pipeline_lib.Pipeline,
               settings: Sequence[pipeline_lib.StageSettings],
               outputs: Sequence[cascade.StageOutput]):
    self._out, self._animation = output.folder, output.animation
    self._pipeline, self._settings = pipeline, settings
    self._outputs = outputs
    self._writer = samples_lib.SampleWriter(
        self._out, fps=pipeline.frame_rate)
    if output.made_by is not None:  # Before any clip: a rerun continues.
      output.made_by.into_folder(self._out)
    self._first = 0 if output.all_stages else len(outputs) - 1

  def write(self, requests: Sequence[requests_lib.Request],
            samples: Iterable[tuple[int, shares_lib.Arrays]]) -> None:
    """Writes all clips, and the first ones on a contact sheet.

    Args:
      requests: One a sample.
      samples: Number of each, and what `_clips` yields.
    """
    names = [stage.name for stage in self._pipeline.stages[self._first:]]
    shown: dict[int, np.ndarray] = {}
    for number, (*clips, given) in progress.track(
        samples, 'write', 'sample', len(requests)):
      request = requests[number]
      entry = samples_lib.Entry(
          stem=f'{number:05d}', caption=request.prompt,
          label=request.label or None, seed=request.seed,
          index=request.index, prompts=request.prompts,
          source=request.image or request.video or None,
          given_frames=int(given[0]))
      self._writer.add(
          entry, clips[-1],
          stage_clips=dict(zip(names[:-1], clips[:-1], strict=True)))
      if self._animation and len(clips[-1]) > 1:
        video.write_animation(
            self._out / f'{entry.stem}.{self._animation}', clips[-1],
            self._pipeline.frame_rate)
      if number < _SHEET_CLIPS:
        shown[number] = clips[-1]
    video.write_png(self._out / SHEET_FILE, contact_sheet.contact_sheet(
        [shown[number] for number in sorted(shown)],
        [_caption(r) for r in requests[:_SHEET_CLIPS]]))

  def finish(self, settings: Mapping[str, Any], start: float) -> None:
    """Writes `samples.json`: how each clip came to be."""
    pipeline, plan = self._pipeline, self._outputs[0].plan
    text = pipeline.text
    settings = dict(
        settings, **pipeline.codec.describe(), fps_origin=pipeline.rate_origin,
        num_frames=plan.num_frames, windows=plan.num_windows,
        window_frames=plan.window_frames,
        context_frames=plan.context_frames if plan.num_windows > 1 else 0,
        text_encoder=None if text is None else dict(
            name=text.name, sha256=text.sha256, max_tokens=text.max_tokens),
        version=walt_jax.__version__, jax=jax.__version__)
    self._writer.finish(
        stages=[self._record(i) for i in range(len(pipeline.stages))],
        settings=settings, seconds=time.perf_counter() - start,
        order=lambda entry: int(entry.stem))

  def _record(self, index: int) -> samples_lib.StageRecord:
    stage, setting = self._pipeline.stages[index], self._settings[index]
    output = self._outputs[index]
    return samples_lib.StageRecord(
        name=stage.name, workdir=stage.workdir, step=stage.step,
        sha256=stage.params.sha256, weights=stage.weights,
        sampler=setting.options.sampler, steps=setting.options.num_steps,
        guidance=setting.guidance.scales,
        guidance_shape=setting.guidance.shape, origins=setting.origins,
        noise_level=(setting.noise_level
                     if stage.sampler.denoiser.low_res_factor else None),
        shape=self._shape(index), seconds=output.seconds,
        compile_seconds=output.compile_seconds,
        tokenizer_sha256=self._pipeline.tokenizer.sha256,
        sampler_options=dataclasses.asdict(setting.options),
        windows=('' if output.plan.num_windows == 1 else
                 'blended' if output.blend else 'continued'))

  def _shape(self, index: int) -> tuple[int, ...]:
    """[T, H, W, 3] of a stage's clips."""
    size = self._pipeline.size(index)
    return (self._outputs[index].plan.num_frames, size.height, size.width, 3)


def _caption(request: requests_lib.Request) -> str:
  """What stands beside a clip on the contact sheet."""
  if request.prompts:
    return ' '.join(f'{frame}: {text}' for frame, text in request.prompts)
  return request.prompt or request.label or f'seed {request.seed}'
