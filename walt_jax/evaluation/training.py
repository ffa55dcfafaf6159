"""Metrics of a model in training, from its averaged parameters.

`commands/train` hands the training loop one function a metric; the loop knows
no metric. Each draws from seeds and indices alone, so that a resumed run logs
what an unbroken one does.
"""
from collections.abc import Callable, Iterable
from typing import Any

import jax

from walt_jax.builders import datasets
from walt_jax.builders import pipelines
from walt_jax.builders import schema
from walt_jax.builders import tokenizers
from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.evaluation import catalog
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric as metric_lib
from walt_jax.evaluation import requests as requests_lib
from walt_jax.evaluation import results
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules
from walt_jax.sampling import compiled_tokenizer
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as sampling_requests

# `(averaged parameters, step) -> (scalars, images)`, on every process.
Evaluator = Callable[[Any, int], tuple[dict[str, float], dict[str, Any]]]
_KEY = 'config key train.evaluators'


def metrics(config: schema.Experiment) -> dict[str, metric_lib.Metric]:
  """The metrics of `train.evaluators` by name; nothing else is read.

  Raises:
    UserError: There is no such metric, or it takes what training cannot give.
  """
  if isinstance(config, schema.DenoiserExperiment):
    given = {'generated'} if not config.model.low_res_factor else set()
    gives = 'samples' if given else 'no samples without a base'
  else:
    given, gives = {'tokenizer'}, 'a tokenizer, no samples'
  if config.data.name != 'latents':
    given.add('real')
  else:
    gives += ' and latents, no real clips'
  found = {}
  for name in config.train.evaluators:
    found[name] = catalog.find(name, _KEY)
    missing = [kind for kind in found[name].takes if kind not in given]
    if missing:
      raise errors.UserError(
          f'{_KEY} has {name!r}, which takes {missing[0]!r}, but this run '
          f'gives {gives}; leave it out, or score checkpoints with '
          'walt evaluate')
  if found and not config.train.eval_batches:
    raise errors.UserError(
        f'{_KEY} is {tuple(found)}, but train.eval_batches is 0: it says how '
        'many held-out clips are scored; set it to 1 or more')
  return found


def check_best(config: schema.Experiment, found: Iterable[str],
               own: Iterable[str]) -> None:
  """Refuses a `train.best_metric` that no evaluation will give.

  Args:
    config: The run's config.
    found: Names of the metrics of `train.evaluators`.
    own: Names of the scores that the stage itself gives.

  Raises:
    UserError: It names the scores that evaluations give.
  """
  wanted = config.train.best_metric
  given = {f'eval/{name}' for name in (
      *(own if config.train.eval_batches else ()),
      *(name for metric in found for name in results.scalar_names(metric)))}
  if wanted not in given:
    raise errors.UserError(
        f'config key train.best_metric is {wanted!r}, but evaluations give '
        f'{", ".join(sorted(given)) or "nothing (train.eval_batches is 0)"}; '
        'choose one of them')


def evaluators(found: dict[str, metric_lib.Metric], config: schema.Experiment,
               workdir: str, mesh: jax.sharding.Mesh,
               classes: tuple[str, ...]) -> list[Evaluator]:
  """Opens held-out clips and builds what scores a model in training.

  Args:
    found: What `metrics` returned.
    config: The run's config.
    workdir: The run's work directory, with its tokenizer.
    mesh: The run's devices.
    classes: Names by label id.
  """
  if not found:
    return []
  model = _Model(config, workdir, mesh, classes)
  return [model.evaluator(name, metric) for name, metric in found.items()]


class _Model:
  """The model in training, around parameters that change."""

  def __init__(self, config: schema.Experiment, workdir: str,
               mesh: jax.sharding.Mesh, classes: tuple[str, ...]):
    self._config, self._workdir = config, workdir
    self._mesh = multihost.local_mesh() if jax.process_count() > 1 else mesh
    self._params: Any = None
    self._pipeline: pipeline_lib.Pipeline | None = None
    self._codec: compiled_tokenizer.Codec | None = None
    sha256 = text_sha256 = None
    if isinstance(config, schema.DenoiserExperiment):
      self._pipeline = pipelines.pipeline_in_training(
          config, workdir, self._mesh, classes, lambda: self._params)
      text = self._pipeline.text
      sha256 = self._pipeline.tokenizer.sha256
      text_sha256 = text.sha256 if text else None
    elif isinstance(config, schema.TokenizerExperiment):
      self._codec = compiled_tokenizer.Codec(
          tokenizers.tokenizer_in_training(
              config, mesh_lib.platform(self._mesh)))
    held_out = datasets.source(
        config, datasets.HELD_OUT, tokenizer_sha256=sha256 or '',
        text_sha256=text_sha256)
    self._clips = datasets.held_out_clips(
        config, held_out, config.train.eval_batches * config.data.batch_size)

  def evaluator(self, name: str, metric: metric_lib.Metric) -> Evaluator:
    """The function that scores the model by one metric."""
    request = requests_lib.EvaluationRequest(
        metric=name, seed=self._config.seed,
        cache=str(paths.path(self._workdir) / run_files.EVALUATION),
        drawing=requests_lib.Drawing(num_samples=len(self._clips.labels)))
    requests = self._requests()

    def evaluate(params: Any, step: int
                 ) -> tuple[dict[str, float], dict[str, Any]]:
      self._params = self._local(params)
      model = inputs_lib.TrainedModel(
          step, self._mesh, self._pipeline,
          self._codec and self._codec.with_params(self._params), requests,
          self._clips.pixels)
      try:
        result = catalog.evaluate(metric, inputs_lib.Inputs(request, model))
      finally:
        # The next step is given these buffers to write to.
        self._params = None
        if self._pipeline is not None:
          self._pipeline.stages[0].params.release()
      return results.scalars(result), {}

    return evaluate

  def _local(self, params: Any) -> Any:
    """The parameters on this process's devices."""
    if jax.process_count() == 1:
      return params
    params = multihost.fetch(params)
    return jax.device_put(params, rules.tree_shardings(
        params, self._mesh, rules.DENOISER_RULES
        if self._pipeline is not None else rules.TOKENIZER_RULES))

  def _requests(self) -> list[sampling_requests.Request]:
    """What the held-out clips show."""
    if self._pipeline is None:
      return []
    base, text = self._pipeline.stages[0], self._pipeline.text
    return [sampling_requests.Request(
        prompt=caption if text is not None else '',
        label=label if base.classes else '')
            for caption, label in zip(
                self._clips.captions, self._clips.labels, strict=True)]
