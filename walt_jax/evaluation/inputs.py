"""What a metric scores: clips on disk, or samples of a model."""
from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import pathlib
from typing import Any

import jax
import numpy as np

from walt_jax.builders import tokenizers
from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.evaluation import clip_files
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import drawer as drawer_lib
from walt_jax.evaluation import real_draws
from walt_jax.evaluation import requests as requests_lib
from walt_jax.metrics import protocols
from walt_jax.sampling import compiled_tokenizer
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as sampling_requests

DEFAULT_SAMPLES = 256


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
  """A model in training, which takes the place of files.

  Attributes:
    step: Training step.
    mesh: Devices of this process to draw samples on.
    pipeline: Draws its samples; None for a tokenizer.
    codec: The tokenizer in training, or None for a denoiser.
    requests: What the held-out clips show, to be drawn.
    real: Held-out clips uint8 [N, T, H, W, 3], or None where the data are
      latents.
  """
  step: int
  mesh: jax.sharding.Mesh
  pipeline: pipeline_lib.Pipeline | None = None
  codec: compiled_tokenizer.Codec | None = None
  requests: Sequence[sampling_requests.Request] = ()
  real: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
  """What one evaluation looks at.

  Attributes:
    request: What was asked for.
    model: A model in training, or None: what the request names.
    opened: The request's stages and their devices, where they are open
      already; None opens them when they are needed.
  """
  request: requests_lib.EvaluationRequest
  model: TrainedModel | None = None
  opened: tuple[pipeline_lib.Pipeline, jax.sharding.Mesh] | None = None

  @property
  def is_drawn(self) -> bool:
    """Whether the generated clips are samples that are yet to be drawn."""
    return self.model is not None or bool(self.request.workdirs)

  @property
  def cache(self) -> pathlib.Path | None:
    """Where features and statistics are kept, or None for nowhere."""
    if self.request.cache:
      return paths.path(self.request.cache)
    if self.request.workdirs:
      return paths.path(self.request.workdirs[-1]) / run_files.EVALUATION
    return None

  @property
  def protocol(self) -> protocols.Protocol:
    """The protocol that the request names."""
    return protocols.get(self.request.protocol)

  def real(self, frames: int | None = None) -> clip_sets.ClipSet:
    """Opens the real clips; of a protocol that draws them, those of set 0.

    Args:
      frames: First frames of each; by default what the request says.

    Raises:
      UserError: There are none.
    """
    frames = frames or self.request.frames
    if self.model is None:
      if self.protocol.draw is not None:
        return self.drawn_real(frames or self.protocol.frames)
      return self._open('real', self.request.real, frames)
    if self.model.real is None:
      raise errors.UserError(
          f'{self.request.metric} needs real clips, but the data are latents')
    return clip_sets.of_array('held-out clips', self.model.real, frames)

  def drawn_real(self, frames: int, repeat: int = 0) -> real_draws.DrawnReal:
    """Opens the real clips that the protocol draws for a set of samples.

    Args:
      frames: Frames of each.
      repeat: Number of the set.

    Raises:
      UserError: Not the videos that the protocol draws of.
    """
    protocol = self.protocol
    assert protocol.draw is not None
    size = rate = None
    if protocol.draw.at_sample_rate:
      if self.is_drawn:
        info = drawer_lib.clip_info(self.pipeline()[0])
      else:
        info = self.generated().clip_info(0)
      size, rate = (info.height, info.width), info.rate
    return real_draws.open_draws(
        self.request.real, protocol, seed=self.request.seed, repeat=repeat,
        frames=frames, size=size, rate=rate)

  def fingerprint(self) -> Any:
    """Changes when the real clips do; a JSON value."""
    if self.model is None:
      return clip_files.fingerprint(str(self.request.real))
    return hashlib.sha256(
        np.ascontiguousarray(self.model.real).tobytes()).hexdigest()

  def generated(self, frames: int | None = None
                ) -> clip_sets.ClipSet | drawer_lib.DrawnClips:
    """Opens the generated clips, or prepares to draw them.

    Args:
      frames: First frames of each clip on disk; by default what the request
        says. Drawn clips are whole.

    Raises:
      UserError: There are none.
    """
    if not self.is_drawn:
      return self._open('generated', self.request.generated,
                        frames or self.request.frames)
    count = self.request.drawing.num_samples or DEFAULT_SAMPLES
    return drawer_lib.DrawnClips(self.drawer(), self.request.seed, count,
                                 self.request.drawing.save_samples,
                                 self.request.made_by)

  def pipeline(self) -> tuple[pipeline_lib.Pipeline, jax.sharding.Mesh]:
    """The stages that samples are drawn from, and their devices."""
    if self.model is None:
      return self._opened
    assert self.model.pipeline is not None  # Checked before training.
    return self.model.pipeline, self.model.mesh

  @functools.cached_property
  def _opened(self) -> tuple[pipeline_lib.Pipeline, jax.sharding.Mesh]:
    return self.opened or drawer_lib.open_pipeline(self.request)

  def drawer(self, opened: tuple[pipeline_lib.Pipeline, jax.sharding.Mesh]
             | None = None, real: clip_sets.ClipSet | None = None,
             requests: Sequence[sampling_requests.Request] = ()
             ) -> drawer_lib.Drawer:
    """Prepares to draw samples.

    Args:
      opened: What `pipeline` returned, if it was called already.
      real: Clips whose first frames may be given.
      requests: What the samples show, in turn; by default what the request
        says.
    """
    pipeline, mesh = opened or self.pipeline()
    return drawer_lib.Drawer.of(
        self.request, pipeline, mesh, real=real,
        requests=self.model.requests if self.model else requests)

  def codec(self) -> compiled_tokenizer.Codec:
    """The tokenizer to score, compiled.

    Raises:
      UserError: The request names none, or several.
    """
    if self.model is not None:
      assert self.model.codec is not None  # Checked before training.
      return self.model.codec
    if len(self.request.workdirs) != 1:
      raise errors.UserError(
          f'{self.request.metric} takes one --workdir, got '
          f'{",".join(self.request.workdirs)}')
    return compiled_tokenizer.Codec(
        tokenizers.load_tokenizer(
            self.request.workdirs[0], jax.default_backend(),
            allow_code=self.request.allow_code),
        self.request.chunks)

  def _open(self, flag: str, path: str | None,
            frames: int | None) -> clip_sets.ClipSet:
    if path is None:
      raise errors.UserError(f'{self.request.metric} needs --{flag} PATH')
    return clip_sets.open_clips(path, frames=frames)
