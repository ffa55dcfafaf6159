"""Trained models by folder, for Python: clips, weights, the tokenizer."""
from collections.abc import Mapping
import dataclasses
import os
from typing import Any

import jax
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import pipelines
from walt_jax.builders import sampling_meshes
from walt_jax.builders import tokenizers
from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules
from walt_jax.sampling import cascade
from walt_jax.sampling import compiled_tokenizer
from walt_jax.sampling import job as job_lib
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import settings
from walt_jax.training import checkpoint_params
from walt_jax.training import workdir as workdir_lib

Folder = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, eq=False)
class ClipSampler:
  """Trained stages that draw clips; `load` makes one.

  Attributes:
    pipeline: The stages, their tokenizer and text encoder.
    mesh: Devices that they run on.
  """
  pipeline: pipeline_lib.Pipeline
  mesh: jax.sharding.Mesh

  def sample(self, prompt: str = '', *, label: str = '',
             image: Folder = '', video: Folder = '', num_samples: int = 1,
             num_frames: int | None = None,
             guidance: float | Mapping[str, float] | None = None,
             seed: int = 0,
             choice: settings.SamplerChoice | None = None) -> np.ndarray:
    """Draws clips, as `walt sample` does.

    Args:
      prompt: Caption, where the base was trained on text.
      label: Class name, or 'all' for one clip of every class.
      image: File of the clips' first frame.
      video: File whose last frames the clips continue.
      num_samples: Clips of the prompt or of each label.
      num_frames: Frames of a clip; None: one window of the base.
      guidance: One scale for all that is asked for (prompt, label), or scales
        by condition: {'text': 7.5, 'label': 1, 'frames': 2}; {} for none.
        None: as the stages' configs say.
      seed: Seed of the noise; equal seeds draw equal clips.
      choice: Sampler, steps and noise levels of each stage; None: as the
        stages' configs say.

    Returns:
      uint8 [N, T, H, W, 3], of the last stage.

    Raises:
      UserError: For what the stages cannot do, in one line.
    """
    choice = choice or settings.SamplerChoice()
    if guidance is not None:
      if not isinstance(guidance, Mapping):
        asked = dict(text=prompt, label=label)
        guidance = {name: float(guidance)
                    for name, value in asked.items() if value}
      choice = dataclasses.replace(choice, guidance=(dict(guidance),))
    job = job_lib.prepare(job_lib.SamplingJob(
        prompt=prompt, label=label, image=os.fspath(image),
        video=os.fspath(video), num_samples=num_samples,
        num_frames=num_frames, seed=seed, choice=choice), self.pipeline)
    with rules.activate(self.mesh):
      outputs = cascade.run(
          self.pipeline, job.requests, job.settings,
          batch_size=job.batch_size, plan=job.plan, given=job.given,
          release=False)
      return np.stack(list(cascade.decode(
          self.pipeline, outputs[-1], job.batch_size)))


def load(workdirs: Folder, *, step: int | None = None,
         mesh: jax.sharding.Mesh | None = None,
         allow_code: bool = False) -> ClipSampler:
  """Loads trained stages, to draw clips.

  Args:
    workdirs: 'BASE' or 'BASE,SR1,SR2': work directories, or what
      `walt export` wrote of them.
    step: Checkpoint of the base; the newest by default.
    mesh: Devices to sample on; by default all, in the mesh of the base's
      config.
    allow_code: Whether classes of others' code that a folder's config names
      (`module:Class`) may be imported.

  Raises:
    UserError: On a folder that holds no such stage, in one line.
  """
  folders = os.fspath(workdirs).split(',')
  if mesh is None:
    mesh = sampling_meshes.sampling_mesh(
        pipelines.read_denoiser(folders[0], allow_code), None,
        mesh_lib.available())
  return ClipSampler(pipelines.load_pipeline(
      folders, mesh, step=step, allow_code=allow_code), mesh)


def load_params(workdir: Folder, *, step: int | None = None
                ) -> dict[str, Any]:
  """Reads a stage's weights: the longest average where there is one.

  Args:
    workdir: Work directory of a denoiser or tokenizer, or an export.
    step: Checkpoint; the newest by default.

  Returns:
    Nested dicts of float32 NumPy arrays, by the names of the Flax modules.

  Raises:
    UserError: On a folder that holds no weights.
  """
  config_lib.read_experiment(os.fspath(workdir))
  found = workdir_lib.WorkDir(workdir)
  if not found.is_export:
    return checkpoint_params.restore_params(found.path, step=step)
  if step is not None:
    raise errors.UserError(
        f'step {step}: {workdir} is an export, which holds the weights of one '
        'step; leave step out')
  params, _ = exports.load_export(found.path)
  return params


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
  """A trained tokenizer: uint8 clips to latents of unit variance and back.

  Attributes:
    compiled: Its programs.
    statistics: Mean and deviation of each latent channel, [c] each.
  """
  compiled: compiled_tokenizer.Codec
  statistics: Any

  @classmethod
  def load(cls, workdir: Folder, *, allow_code: bool = False) -> 'Tokenizer':
    """Reads the tokenizer of a work directory or export of any stage.

    Args:
      workdir: The folder.
      allow_code: Whether its config may name a class to import.

    Raises:
      UserError: There is none.
    """
    tokenizer = tokenizers.load_tokenizer(
        os.fspath(workdir), allow_code=allow_code)
    return cls(compiled_tokenizer.Codec(tokenizer), tokenizer.statistics)

  def encode(self, clips: np.ndarray) -> np.ndarray:
    """Maps uint8 [N, 1+T, H, W, 3] to the latents' mean [N, 1+t, h, w, c]."""
    return self.compiled.encode(clips)

  def decode(self, latents: np.ndarray) -> np.ndarray:
    """Maps latents [N, 1+t, h, w, c] to uint8 [N, 1+T, H, W, 3]."""
    return self.compiled.decode(latents)
