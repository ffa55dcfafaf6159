"""A job of sampling: what is asked for, and the same checked and opened."""
from collections.abc import Sequence
import dataclasses

import numpy as np

from walt_jax.core import errors
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import request_checks
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import rollout
from walt_jax.sampling import settings as settings_lib

ALL_LABELS = 'all'


@dataclasses.dataclass(frozen=True)
class SamplingJob:
  """What a user asks a pipeline for; built from flags or by the demo's page.

  Attributes:
    prompt: Caption, or '' for none.
    label: Class name, 'all' for every class, or '' for none; it may stand
      beside a caption.
    image: File of each clip's first frame, or ''.
    video: File whose last frames each clip continues, or ''.
    conditions: (name, numbers) of conditions of the user's own.
    requests_file: JSON lines with all of the above instead, or ''.
    num_samples: Samples of each prompt, label or line.
    num_frames: Frames of a clip; None: one window.
    seed: Seed of the noise, where a line of the file has none.
    choice: Sampler, guidance and noise level of each stage.
    batch_size: Samples drawn at once; changes no result.
  """
  prompt: str = ''
  label: str = ''
  image: str = ''
  video: str = ''
  conditions: tuple[tuple[str, tuple[float, ...]], ...] = ()
  requests_file: str = ''
  num_samples: int = 1
  num_frames: int | None = None
  seed: int = 0
  choice: settings_lib.SamplerChoice = settings_lib.SamplerChoice()
  batch_size: int = settings_lib.DEFAULT_BATCH_SIZE

  def requests(self, pipeline: pipeline_lib.Pipeline
               ) -> list[requests_lib.Request]:
    """One request a sample.

    Raises:
      UserError: On a file that cannot be read, 'all' labels of none, or what
        would not be used.
    """
    if self.image and self.video:
      raise errors.UserError(
          f'--image {self.image} with --video {self.video}: a clip begins with '
          'one of them; leave the other out')
    if self.requests_file:
      given = dict(prompt=self.prompt, label=self.label, image=self.image,
                   video=self.video, condition=self.conditions)
      flags = [f'--{name}' for name, value in given.items() if value]
      if flags:
        raise errors.UserError(
            f'--requests {self.requests_file} with {", ".join(flags)}: give '
            'them in its lines, not as a flag')
      requests = requests_lib.read(self.requests_file, self.seed)
      return requests_lib.number(
          [r for r in requests for _ in range(self.num_samples)])
    request = requests_lib.Request(
        prompt=self.prompt, label=self.label, seed=self.seed,
        image=self.image, video=self.video, conditions=self.conditions)
    if self.label != ALL_LABELS:
      return requests_lib.repeat(request, self.num_samples)
    classes = pipeline.stages[0].classes
    if not classes:
      raise errors.UserError(
          f'--label all: {pipeline.stages[0].workdir} was trained without '
          'labels; give --prompt')
    return requests_lib.number(
        [dataclasses.replace(request, label=label)
         for label in classes for _ in range(self.num_samples)])


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedJob:
  """A job that a pipeline can do, with its files read.

  Attributes:
    requests: One a sample.
    plan: Windows of each clip.
    settings: One a stage.
    given: Pixels that each clip begins with, at the last stage's size.
    batch_size: Samples drawn at once.
  """
  requests: Sequence[requests_lib.Request]
  plan: rollout.Plan
  settings: Sequence[pipeline_lib.StageSettings]
  given: Sequence[np.ndarray | None]
  batch_size: int


def prepare(job: SamplingJob, pipeline: pipeline_lib.Pipeline) -> PreparedJob:
  """Checks a job and reads its files, before any work.

  Raises:
    UserError: For what the pipeline's stages cannot do.
  """
  requests = job.requests(pipeline)
  plan = settings_lib.plan_of(pipeline, job.num_frames)
  request_checks.check_requests(pipeline, requests, plan)
  settings = settings_lib.stage_settings(job.choice, pipeline)
  request_checks.tell_idle_guidance(pipeline, requests, settings, plan)
  return PreparedJob(
      requests, plan, settings, pipeline_lib.read_given(pipeline, requests),
      job.batch_size)
