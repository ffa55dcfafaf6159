"""The cascade: from requests to clips, stage by stage.

Samples go through a stage in batches of one size (one compiled program a
stage); what passes between stages is latents in host memory, so only one
stage's work is on the devices at a time. A sample depends on its seed, its
index and its request alone: not on the batch size and not on the mesh.

A clip of several windows goes through a stage window by window. A stage that
learnt to continue from given frames gets the last ones of what it has made so
far, re-encoded, and continues them; a super-resolution stage that did not
draws each window on its own, and the frames that two windows share go over
from one to the other (`rollout.join`).
"""
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types
from walt_jax.diffusion import noise
from walt_jax.parallel import programs
from walt_jax.sampling import given_frames
from walt_jax.sampling import own_conditions
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import rollout

Given = Sequence[np.ndarray | None]
# Called with the stage's name, the windows done and all its windows.
Report = Callable[[str, int, int], None]
_WINDOWS = 2  # Use of a row's key; 0, 1 and 3 are `stage_sampler`'s.


@dataclasses.dataclass
class StageOutput:
  """What one stage made of all requests.

  Attributes:
    latents: float32 [N, windows, 1+t, h, w, c], normalised.
    plan: Windows of the clips.
    blend: Whether windows were drawn on their own.
    kept: For each request, the given pixels [g, H, W, 3] that the stage went
      on from, or None; they stand in the clip as they are.
    seconds: Wall time, compiling included.
    compile_seconds: Time of the first batch's compilation.
  """
  latents: np.ndarray
  plan: rollout.Plan
  blend: bool
  kept: list[np.ndarray | None]
  seconds: float
  compile_seconds: float


def run(pipeline: pipeline_lib.Pipeline,
        requests: Sequence[requests_lib.Request],
        settings: Sequence[pipeline_lib.StageSettings], *, batch_size: int,
        plan: rollout.Plan | None = None, given: Given | None = None,
        release: bool = True,
        report: Report = lambda stage, done, total: None
        ) -> list[StageOutput]:
  """Runs all requests through every stage.

  Args:
    pipeline: Its stages.
    requests: One a sample.
    settings: One a stage.
    batch_size: Samples at once.
    plan: Windows of the clips; one by default.
    given: Pixels that each clip begins with, at the last stage's size.
    release: Gives each stage's parameters back before the next one starts.
    report: Told of progress.
  """
  outputs: list[StageOutput] = []
  for index, stage in enumerate(pipeline.stages):
    report_stage = (lambda done, total, name=stage.name:
                    report(name, done, total))
    outputs.append(run_stage(
        pipeline, index, requests, settings[index],
        low_res=outputs[-1].latents if outputs else None,
        batch_size=batch_size, plan=plan,
        given=(given_frames.at_size(given, pipeline.size(index)) if given
               else None),
        report=report_stage))
    if release:
      stage.params.release()
  return outputs


def run_stage(pipeline: pipeline_lib.Pipeline, index: int,
              requests: Sequence[requests_lib.Request],
              settings: pipeline_lib.StageSettings, *,
              low_res: np.ndarray | None, batch_size: int,
              plan: rollout.Plan | None = None, given: Given | None = None,
              report: Callable[[int, int], None] = lambda done, total: None
              ) -> StageOutput:
  """Draws the latents of one stage for all requests.

  A condition that none of them gives is left out, and guidance by it costs no
  pass.

  Args:
    pipeline: Holds the stage.
    index: Which stage.
    requests: One a sample.
    settings: Sampler, guidance and noise level.
    low_res: [N, windows, 1+t, h/f, w/f, c] latents of the stage before.
    batch_size: Samples at once.
    plan: Windows of the clips; one by default.
    given: Pixels that each clip begins with, at this stage's size.
    report: Called with the number of windows done, and of all.
  """
  start = time.perf_counter()
  stage, plan = pipeline.stages[index], plan or pipeline.plan()
  batch_size = pipeline.drawn_rows(min(batch_size, len(requests)), settings)
  context = _Context(pipeline, stage, plan, given or [None] * len(requests))
  text = _Texts(pipeline, stage, requests, plan)
  labels = _label_ids(stage, requests)
  own = own_conditions.given(stage.sampler.denoiser.conditions, requests)
  draw = _program(pipeline, index, settings)
  compiling = draw.compile_seconds
  params, level = stage.params.get(), jnp.float32(settings.noise_level)
  total = len(requests) * plan.num_windows
  latents = np.zeros(
      (len(requests), plan.num_windows, *stage.sampler.shape), np.float32)
  for first in range(0, len(requests), batch_size):
    # The last batch repeats its last row: one program serves all batches.
    rows = np.minimum(np.arange(first, first + batch_size), len(requests) - 1)
    count = min(batch_size, len(requests) - first)
    row_keys = _keys([requests[i] for i in rows], index)
    context.begin(rows)
    for window in range(plan.num_windows):
      keys = row_keys if window == 0 else _fold(row_keys, window)
      fields: dict[str, Any] = {
          **text.of(rows, window), **context.condition(),
          **own_conditions.of(own, [requests[i] for i in rows])}
      conditioning = types.Conditioning(
          label=None if labels is None else jnp.asarray(labels[rows]),
          low_res=None if low_res is None else jnp.asarray(
              low_res[rows, window]), **fields)
      drawn = np.asarray(draw(
          params, *pipeline.spread((keys, conditioning), batch_size), level))
      latents[first:first + count, window] = drawn[:count]
      if window + 1 < plan.num_windows:
        context.extend(drawn)
      report(first * plan.num_windows + count * (window + 1), total)
  return StageOutput(
      latents, plan, context.blend, context.kept,
      time.perf_counter() - start, draw.compile_seconds - compiling)


def decode(pipeline: pipeline_lib.Pipeline, output: StageOutput,
           batch_size: int) -> Iterator[np.ndarray]:
  """Decodes a stage's output to clips uint8 [N, H, W, 3], one by one."""
  total = len(output.latents)
  batch_size = min(batch_size, total)
  for first in range(0, total, batch_size):
    rows = np.arange(first, min(first + batch_size, total))
    windows = [
        pipeline.codec.decode(output.latents[rows, window], batch_size)
        for window in range(output.plan.num_windows)]
    for row in range(len(rows)):
      clip = rollout.join([window[row] for window in windows], output.plan,
                          blend=output.blend)
      kept = output.kept[first + row]
      if kept is not None:
        kept = kept[:len(clip)]
        clip = np.concatenate([kept, clip[len(kept):]])
      yield clip


def _program(pipeline: pipeline_lib.Pipeline, index: int,
             settings: pipeline_lib.StageSettings) -> programs.Program:
  """The stage's sampler with these settings, kept for the next call."""
  key = index, settings.options, settings.guidance
  if key not in pipeline.programs:
    pipeline.programs[key] = programs.Program(
        pipeline.stages[index].sampler.make(
            settings.options, settings.guidance))
  return pipeline.programs[key]


class _Context:
  """The frames that each window of a batch continues from.

  Attributes:
    blend: Whether the stage draws the windows of a clip on their own.
    kept: For each request, the given pixels that the stage continues from.
  """

  def __init__(self, pipeline, stage, plan: rollout.Plan, given: Given):
    shared = rollout.CONTEXT_LATENTS
    self._codec, self._plan = pipeline.codec, plan
    self._shape = stage.sampler.shape
    continues = plan.num_windows > 1 and shared in stage.frame_lengths
    self.blend = plan.num_windows > 1 and not continues
    self.kept = [
        frames if frames is not None and
        (1 if len(frames) == 1 else shared) in stage.frame_lengths else None
        for frames in given]
    self._used = continues or any(k is not None for k in self.kept)
    self._pixels: list[np.ndarray | None] = []

  def begin(self, rows: np.ndarray) -> None:
    """Starts the clips of these requests."""
    self._pixels = [self.kept[i] for i in rows]

  def extend(self, latents: np.ndarray) -> None:
    """Takes the window that was just drawn, [B, 1+t, h, w, c]."""
    if not self._used or self.blend:
      # What was given was for the first window.
      self._pixels = [None] * len(latents)
      return
    decoded = self._codec.decode(latents)
    for row, (clip, before) in enumerate(
        zip(decoded, self._pixels, strict=True)):
      if before is not None:
        clip = np.concatenate([before, clip[len(before):]])
      self._pixels[row] = clip[-self._plan.context_frames:]

  def condition(self) -> dict[str, jax.Array]:
    """The next window's given latents and their mask."""
    if not self._used:
      return {}
    frames, height, width, channels = self._shape
    size = (height * self._codec.f_s, width * self._codec.f_s, 3)
    pixels = np.zeros(
        (len(self._pixels), self._plan.context_frames, *size), np.uint8)
    mask = np.zeros((len(self._pixels), frames), np.float32)
    for row, given in enumerate(self._pixels):
      if given is not None:
        # Latents see no later frame: what fills up a single one is masked.
        pixels[row] = given[-1]
        pixels[row, :len(given)] = given
        mask[row, :1 if len(given) == 1 else rollout.CONTEXT_LATENTS] = 1
    encoded = self._codec.encode(pixels)
    latents = np.zeros((len(pixels), *self._shape), np.float32)
    latents[:, :encoded.shape[1]] = encoded
    latents *= mask[..., None, None, None]
    return dict(frame_cond=jnp.asarray(latents), frame_mask=jnp.asarray(mask))


class _Texts:
  """Token states of every window's prompt, each distinct one encoded once."""

  def __init__(self, pipeline, stage, requests, plan: rollout.Plan):
    self._used = False
    if not stage.uses_text:
      return
    prompts = [[request.prompt_at(plan.middle(window))
                for window in range(plan.num_windows)]
               for request in requests]
    distinct = list(dict.fromkeys(p for row in prompts for p in row))
    self._used = any(distinct)
    if not self._used:
      return
    self._states, mask = pipeline.text.embed(distinct)
    # A request without a prompt has no token.
    self._mask = mask & np.array([bool(p) for p in distinct])[:, None]
    self._index = np.array([[distinct.index(p) for p in row]
                            for row in prompts])

  def of(self, rows: np.ndarray, window: int) -> dict[str, jax.Array]:
    """States [B, 1, L, D] and mask [B, 1, L]; nothing without text."""
    if not self._used:
      return {}
    chosen = self._index[rows, window]
    return dict(text=jnp.asarray(self._states[chosen][:, None]),
                text_mask=jnp.asarray(self._mask[chosen][:, None]))


def _keys(requests: Sequence[requests_lib.Request], stage: int) -> jax.Array:
  """One key a sample and stage: a function of (seed, index, stage)."""

  def key(request):
    key = jax.random.fold_in(
        noise.key_of_seed(request.seed), request.index)
    return jax.random.fold_in(key, stage)

  return jnp.stack([key(request) for request in requests])


def _fold(keys: jax.Array, window: int) -> jax.Array:
  """The keys of a later window."""
  return jax.vmap(lambda key: jax.random.fold_in(
      jax.random.fold_in(key, _WINDOWS), window))(keys)


def _label_ids(stage: pipeline_lib.TrainedStage,
               requests: Sequence[requests_lib.Request]
               ) -> np.ndarray | None:
  """int32 [N, 1]; the null label where none is asked for, None if nowhere."""
  if not stage.classes or not any(r.label for r in requests):
    return None
  ids = {name: i for i, name in enumerate(stage.classes)}
  null = stage.sampler.denoiser.num_classes
  return np.array([[ids.get(r.label, null)] for r in requests], np.int32)
