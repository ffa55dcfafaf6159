"""The cascade: from requests to clips, stage by stage.

Samples go through a stage in batches of one size (one compiled program a
stage); what passes between stages is latents in host memory, so only one
stage's work is on the devices at a time. A sample depends on its seed, its
index and its request alone: not on the batch size and not on the mesh.
"""
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax import errors
from walt_jax import types
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import samplers
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import stage_sampler
from walt_jax.text import encoder as text_encoder
from walt_jax.tokenizer import frozen as frozen_lib

Request = requests_lib.Request


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedStage:
  """One work directory, loaded.

  Attributes:
    name: 'base', 'sr1', ..
    workdir: Where it came from.
    step: Training step of the weights.
    sha256: Hash of the weights.
    weights: 'ema/0.99' or 'params'.
    sampler: Draws latents.
    params: The denoiser's parameters.
    classes: Names by label id, () without labels.
    uses_text: Whether it is conditioned on text.
    defaults: The config's sampler.
  """
  name: str
  workdir: str
  step: int
  sha256: str
  weights: str
  sampler: stage_sampler.StageSampler
  params: Any
  classes: tuple[str, ...]
  uses_text: bool
  defaults: samplers.SamplerOptions


@dataclasses.dataclass(frozen=True)
class StageSettings:
  """What a user may choose for one stage.

  Attributes:
    options: Sampler and steps.
    guidance: Scales by condition.
    noise_level: Of the low-resolution input, in [0, 1].
  """
  options: samplers.SamplerOptions
  guidance: guidance_lib.Guidance
  noise_level: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Pipeline:
  """A tokenizer and the stages that share it.

  Attributes:
    tokenizer: Decodes every stage's latents.
    stages: Base first.
    text: Encoder of prompts, or None.
    frame_rate: Frames a second of the clips.
  """
  tokenizer: frozen_lib.Tokenizer
  stages: tuple[TrainedStage, ...]
  text: text_encoder.TextEncoder | None
  frame_rate: float


@dataclasses.dataclass
class StageOutput:
  """What one stage made of all requests.

  Attributes:
    latents: float32 [N, 1+t, h, w, c], normalised.
    seconds: Wall time, compiling included.
    compile_seconds: Of the first batch's compilation.
  """
  latents: np.ndarray
  seconds: float
  compile_seconds: float


def check_requests(pipeline: Pipeline, requests: Sequence[Request]) -> None:
  """Raises UserError for a label or prompt that no stage understands."""
  base = pipeline.stages[0]
  prompts = [r.prompt for r in requests if r.prompt]
  if prompts and not base.uses_text:
    raise errors.UserError(
        f'prompt {prompts[0]!r}: {base.workdir} was trained without text; '
        'give --label')
  for request in requests:
    if request.label and request.label not in base.classes:
      known = ', '.join(base.classes[:12]) or 'none'
      more = ', ..' if len(base.classes) > 12 else ''
      raise errors.UserError(
          f'label {request.label!r} is no class of {base.workdir}; '
          f'known: {known}{more}')
  if prompts:
    pipeline.text.check_length(prompts)


def run_stage(pipeline: Pipeline, index: int, requests: Sequence[Request],
              settings: StageSettings, *, low_res: np.ndarray | None,
              batch_size: int,
              report: Callable[[int], None] = lambda done: None
              ) -> StageOutput:
  """Draws the latents of one stage for all requests.

  Args:
    pipeline: Holds the stage.
    index: Which stage.
    requests: One a sample.
    settings: Sampler, guidance and noise level.
    low_res: [N, 1+t, h/f, w/f, c] latents of the stage before, or None.
    batch_size: Samples at once.
    report: Called with the number of samples done.
  """
  stage = pipeline.stages[index]
  text, text_mask = _embed(pipeline, stage, requests)
  labels = _label_ids(stage, requests)
  draw = stage.sampler.make(settings.options, settings.guidance)
  level = jnp.float32(settings.noise_level)
  start = time.perf_counter()
  compiled, compile_seconds, parts = None, 0.0, []
  batch_size = min(batch_size, len(requests))
  for first in range(0, len(requests), batch_size):
    # The last batch repeats its last row: one program serves all batches.
    rows = np.minimum(np.arange(first, first + batch_size), len(requests) - 1)
    keys = _keys([requests[i] for i in rows], index)
    conditioning = types.Conditioning(
        label=None if labels is None else jnp.asarray(labels[rows]),
        text=None if text is None else jnp.asarray(text[rows]),
        text_mask=None if text is None else jnp.asarray(text_mask[rows]),
        low_res=None if low_res is None else jnp.asarray(low_res[rows]))
    arguments = (stage.params, keys, conditioning, level)
    if compiled is None:
      compile_start = time.perf_counter()
      compiled = jax.jit(draw).lower(*arguments).compile()
      compile_seconds = time.perf_counter() - compile_start
    latents = np.asarray(compiled(*arguments))
    count = min(batch_size, len(requests) - first)
    parts.append(latents[:count])
    report(first + count)
  return StageOutput(np.concatenate(parts), time.perf_counter() - start,
                     compile_seconds)


def decode(pipeline: Pipeline, latents: np.ndarray,
           batch_size: int) -> Iterator[np.ndarray]:
  """Decodes normalised latents [N, ..] to clips uint8 [T, H, W, 3]."""
  tokenizer = pipeline.tokenizer
  batch_size = min(batch_size, len(latents))
  decode_fn = jax.jit(lambda frozen, z: frozen_lib.to_uint8(
      frozen_lib.decode_pixels(tokenizer.module, frozen['params'],
                               frozen['statistics'], z)))
  for first in range(0, len(latents), batch_size):
    rows = np.minimum(np.arange(first, first + batch_size), len(latents) - 1)
    clips = np.asarray(decode_fn(tokenizer.frozen, latents[rows]))
    yield from clips[:min(batch_size, len(latents) - first)]


def _keys(requests: Sequence[Request], stage: int) -> jax.Array:
  """One key a sample and stage: a function of (seed, index, stage)."""

  def key(request):
    key = jax.random.fold_in(jax.random.key(request.seed), request.index)
    return jax.random.fold_in(key, stage)

  return jnp.stack([key(request) for request in requests])


def _label_ids(stage: TrainedStage,
               requests: Sequence[Request]) -> np.ndarray | None:
  """int32 [N, 1]; the null label where none is asked for."""
  if not stage.classes:
    return None
  ids = {name: i for i, name in enumerate(stage.classes)}
  null = stage.sampler.denoiser.num_classes
  return np.array([[ids.get(r.label, null)] for r in requests], np.int32)


def _embed(pipeline: Pipeline, stage: TrainedStage,
           requests: Sequence[Request]):
  """Token states [N, 1, L, D] and mask [N, 1, L]; no token without prompt."""
  if not stage.uses_text:
    return None, None
  states, mask = pipeline.text.embed([r.prompt for r in requests])
  asked = np.array([bool(r.prompt) for r in requests])
  return states[:, None], (mask & asked[:, None])[:, None]
