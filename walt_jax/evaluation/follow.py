"""`walt evaluate .. --follow`: scores the checkpoints of a run as they come."""
from collections.abc import Sequence
import dataclasses
import pathlib
import time
from typing import Any

import jax

from walt_jax.builders import pipelines
from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.evaluation import catalog
from walt_jax.evaluation import drawer as drawer_lib
from walt_jax.evaluation import follow_records
from walt_jax.evaluation import followed_run
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric as metric_lib
from walt_jax.evaluation import real as real_lib
from walt_jax.evaluation import requests as requests_lib
from walt_jax.parallel import multihost
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.training import workdir as workdir_lib


def follow(metric: metric_lib.Metric, request: requests_lib.EvaluationRequest,
           *, poll: float, write_scalars: follow_records.WriteScalars
           ) -> dict[str, Any]:
  """Scores every checkpoint until the last that the run will write.

  The run need not have begun. Each score becomes `eval/METRIC` of its step in
  the run's TensorBoard and `metrics.jsonl`, and a file in its `evaluation/`,
  by which a rerun knows what is done. Checkpoints at multiples of the run's
  `train.keep_every` and its newest two are there to be scored; steps of
  others that training removed first are told.

  Args:
    metric: Scores each checkpoint.
    request: Its `workdirs` are scored, at every step of the base; stages
      after the base are those of the first score.
    poll: Seconds between looks for a new checkpoint.
    write_scalars: `write_scalars(workdir, step, scalars)` adds them to the
      metrics of a run.

  Returns:
    The last result, with the `history` of all, and the steps `missed`.

  Raises:
    UserError: For what can never be scored, before any waiting, and for a
      run that left no checkpoint.
  """
  _check(metric, request)
  run = followed_run.FollowedRun(
      paths.path(request.workdirs[0]), allow_code=request.allow_code)
  records = follow_records.Records(request, write_scalars)
  scorer = _Scorer(metric, request)
  said: set[str] = set()
  gone: int | None = None  # Step of the checkpoint that was just found gone.
  while True:
    look = run.look(records.history)
    _tell(_missed(run, records.history, said), said)
    if look.step is not None:
      result = scorer.score(look.step)
      if result is not None:
        records.add(look.step, result)
      elif look.step == gone:  # The first process still sees it.
        time.sleep(poll)
      gone = look.step if result is None else None
    elif look.is_over:
      break
    else:
      _tell([_waiting(run.base, look)], said)
      time.sleep(poll)
  if not records.history:
    raise errors.UserError(
        f'{run.base} had no checkpoint to score at its last step {look.last}; '
        'set train.save_every, and train.keep_every to keep them')
  return records.result(run.gone(records.history))


def _check(metric: metric_lib.Metric,
           request: requests_lib.EvaluationRequest) -> None:
  """Refuses what no checkpoint would change, before any waiting."""
  if request.drawing.step is not None:
    raise errors.UserError(
        f'--step {request.drawing.step} with --follow: it scores every '
        'checkpoint; leave one of them out')
  if 'generated' not in metric.takes:
    raise errors.UserError(
        f'--follow scores samples of checkpoints, and {request.metric} takes '
        f'{" and ".join(metric.takes) or "none"}; leave it out')
  inputs = inputs_lib.Inputs(request)
  if 'real' in metric.takes and inputs.protocol.draw is None and not (
      request.real is not None and real_lib.is_statistics(request.real)):
    inputs.real()


def _waiting(base: pathlib.Path, look: followed_run.Look) -> str:
  if look.last is None:
    return f'waiting for {base}: no run has begun there yet'
  if look.newest is None:
    return f'waiting for the first checkpoint of {base}'
  return f'waiting for checkpoints of {base} up to step {look.last}'


def _missed(run: followed_run.FollowedRun, scored: Any,
            said: set[str]) -> Sequence[str]:
  """A line of the checkpoints that are gone, where it is news."""
  gone = [step for step in run.gone(scored) if f'gone {step}' not in said]
  if not gone:
    return []
  said.update(f'gone {step}' for step in gone)
  steps = ', '.join(map(str, gone))
  return [f'gone before they were scored: checkpoints {steps} of {run.base}; '
          'set train.keep_every of the run, so that training keeps them']


def _tell(lines: Sequence[str], said: set[str]) -> None:
  """Prints each line once, in the first process."""
  for line in lines:
    if line not in said and multihost.is_main():
      print(line, flush=True)
    said.add(line)


class _Scorer:
  """Scores one checkpoint after another through one pipeline."""

  def __init__(self, metric: metric_lib.Metric,
               request: requests_lib.EvaluationRequest):
    self._metric, self._request = metric, request
    self._opened: tuple[pipeline_lib.Pipeline, jax.sharding.Mesh] | None = None

  def score(self, step: int) -> dict[str, Any] | None:
    """The result of a checkpoint; None where it is gone by now."""
    request = dataclasses.replace(
        self._request,
        drawing=dataclasses.replace(self._request.drawing, step=step))
    try:
      self._opened = self._open(request, step)
      return catalog.evaluate(
          self._metric, inputs_lib.Inputs(request, opened=self._opened))
    except (errors.UserError, OSError, ValueError):
      if step in workdir_lib.WorkDir(request.workdirs[0]).steps():
        raise
      return None

  def _open(self, request: requests_lib.EvaluationRequest, step: int
            ) -> tuple[pipeline_lib.Pipeline, jax.sharding.Mesh]:
    """The stages with the base's weights of a step; built once."""
    if self._opened is None:
      return drawer_lib.open_pipeline(request)
    pipeline, mesh = self._opened
    return pipelines.at_step(pipeline, mesh, step), mesh
