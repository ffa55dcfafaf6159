"""A tokenizer and trained stages that draw clips together."""
from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import samplers
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import compiled_tokenizer
from walt_jax.sampling import given_frames
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import rollout
from walt_jax.sampling import stage_sampler
from walt_jax.text import encoder as text_encoder
from walt_jax.tokenizer import inference

Request = requests_lib.Request
# What may be chosen for a stage, by the names that `samples.json` uses.
SETTINGS = ('sampler', 'steps', 'factorized', 'guidance', 'noise_level')


class StageParams:
  """A stage's parameters, on the devices while they are needed."""

  def __init__(self, restore: Callable[[], Any],
               digest: Callable[[Any], str],
               ready: Callable[[Any], Any] = lambda params: params):
    """Reads nothing yet.

    Args:
      restore: Reads the parameters onto the devices.
      digest: Their hash, as they were read.
      ready: Makes of them what the stage's sampler takes.
    """
    self._restore, self._digest, self._ready = restore, digest, ready
    self._params: Any = None
    self._sha256 = ''

  def get(self) -> Any:
    """The parameters; read when they are not there."""
    if self._params is None:
      params = self._restore()
      self._sha256 = self._sha256 or self._digest(params)
      self._params = self._ready(params)
    return self._params

  def release(self) -> None:
    """Gives their memory back; `get` reads them again."""
    self._params = None

  @property
  def sha256(self) -> str:
    """Hash of the parameters."""
    if not self._sha256:
      self.get()
    return self._sha256


@dataclasses.dataclass(frozen=True)
class StageSettings:
  """How one stage draws.

  Attributes:
    options: Sampler and steps.
    guidance: Scales by condition.
    noise_level: Noise level of the low-resolution input, in [0, 1].
    asked: Names of what the request chose, of `SETTINGS`; the rest is what
      the stage's config says.
  """
  options: samplers.SamplerOptions
  guidance: guidance_lib.Guidance
  noise_level: float = 0.0
  asked: frozenset[str] = frozenset()

  @property
  def origins(self) -> dict[str, str]:
    """Where each setting came from: 'request' or 'config'."""
    return {name: 'request' if name in self.asked else 'config'
            for name in SETTINGS}


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedStage:
  """One work directory or export.

  Attributes:
    name: 'base', 'sr1', ..
    workdir: Where it came from.
    step: Training step of the weights.
    weights: 'ema/0.99' or 'params'.
    sampler: Draws latents.
    params: The denoiser's parameters.
    classes: Names by label id, () without labels.
    uses_text: Whether it is conditioned on text.
    frame_lengths: How many latent frames it learnt to continue from; () for a
      stage without frame prediction.
    can_factorize: Whether it learnt to draw an image first, and to continue
      from that (`SamplerOptions.factorized`).
    defaults: How it draws unless a request says otherwise, by its config.
    never_without: Conditions that training never left out: it does not know
      how to draw without them, so that it cannot be guided by them.
    most_noise: Highest noise level of the low-resolution input that it was
      trained with.
  """
  name: str
  workdir: str
  step: int
  weights: str
  sampler: stage_sampler.StageSampler
  params: StageParams
  classes: tuple[str, ...]
  uses_text: bool
  frame_lengths: tuple[int, ...]
  can_factorize: bool
  defaults: StageSettings
  never_without: frozenset[str] = frozenset()
  most_noise: float = 0.0

  @property
  def conditions(self) -> frozenset[str]:
    """What can be guided."""
    has = dict(label=bool(self.classes), text=self.uses_text,
               frames=bool(self.frame_lengths))
    own = (kind.column for kind in self.sampler.denoiser.conditions)
    return frozenset(name for name, value in has.items() if value).union(own)


@dataclasses.dataclass(frozen=True, eq=False)
class Pipeline:
  """A tokenizer and the stages that share it.

  Attributes:
    tokenizer: Decodes every stage's latents.
    stages: Base first.
    text: Encoder of prompts, or None.
    frame_rate: Frames a second that clips are written at.
    trained_rate: The rate of the clips that the base was trained on; None
      where they had several, or nothing says.
    rate_origin: Where `frame_rate` came from: the 'run' or its 'config', a
      'request', or 'default' where nothing says.
    chunks: What the tokenizer computes at once, whatever fits.
    mesh: What rows are spread over, and what a run's denoisers lie on; None
      for the default device.
  """
  tokenizer: inference.Tokenizer
  stages: tuple[TrainedStage, ...]
  text: text_encoder.TextEncoder | None
  frame_rate: float
  trained_rate: float | None = None
  rate_origin: str = 'run'
  chunks: compiled_tokenizer.Chunks = compiled_tokenizer.Chunks()
  mesh: jax.sharding.Mesh | None = None

  @property
  def rate(self) -> float | None:
    """`frame_rate`, or None where nothing said at what rate the clips play."""
    return self.frame_rate if self.rate_origin != 'default' else None

  @functools.cached_property
  def programs(self) -> dict[Any, Any]:
    """Compiled samplers by stage and settings (`cascade`)."""
    return {}

  @functools.cached_property
  def codec(self) -> compiled_tokenizer.Codec:
    """The compiled tokenizer."""
    return compiled_tokenizer.Codec(
        self.tokenizer, self.chunks, devices=self._devices,
        prefer_height=(self.mesh is not None
                       and mesh_lib.num_context_parts(self.mesh) > 1))

  @property
  def _devices(self) -> tuple[jax.Device, ...]:
    """This process's devices; () for one alone, which needs no placing."""
    if self.mesh is None or self.mesh.size == 1:
      return ()
    return tuple(self.mesh.local_devices)

  def drawn_rows(self, num_rows: int, settings: StageSettings) -> int:
    """Rows that are drawn for so many that are wanted."""
    if self.mesh is None:
      return num_rows
    return mesh_lib.drawn_rows(
        self.mesh, num_rows, settings.guidance.num_passes)

  def spread(self, rows: Any, num_rows: int) -> Any:
    """Puts arrays of a batch where its rows are computed."""
    if self.mesh is None or self.mesh.size == 1:
      return rows
    return jax.device_put(
        rows, mesh_lib.drawn_sharding(self.mesh, num_rows))

  def with_base(self, base: TrainedStage) -> 'Pipeline':
    """The same programs with other weights of the base."""
    other = dataclasses.replace(self, stages=(base, *self.stages[1:]))
    vars(other).update(programs=self.programs, codec=self.codec)
    return other

  def plan(self, num_frames: int | None = None) -> rollout.Plan:
    """The windows of a clip of so many frames; None is one window."""
    return rollout.plan(num_frames, self.stages[0].sampler.shape[0],
                        self.codec.f_t)

  def size(self, stage: int) -> given_frames.Size:
    """Frame size of a stage's output."""
    _, height, width, _ = self.stages[stage].sampler.shape
    return given_frames.Size(height * self.codec.f_s, width * self.codec.f_s)


def read_given(pipeline: Pipeline, requests: Sequence[Request]
               ) -> list[np.ndarray | None]:
  """What each request gives, at the last stage's size.

  Raises:
    UserError: On a file that cannot be read.
  """
  size, shared = pipeline.size(-1), pipeline.plan().context_frames
  files: dict[tuple[str, str], np.ndarray | None] = {}
  for request in requests:
    name = (request.image, request.video)
    if name not in files:
      files[name] = given_frames.read(
          request, size, shared, pipeline.trained_rate)
  return [files[request.image, request.video] for request in requests]
