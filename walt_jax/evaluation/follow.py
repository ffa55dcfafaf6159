"""`walt evaluate .. --follow`: scores the checkpoints of a run as they come."""
from collections.abc import Callable, Mapping
import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import run_files
from walt_jax.evaluation import catalog
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric as metric_lib
from walt_jax.evaluation import requests as requests_lib
from walt_jax.evaluation import results
from walt_jax.metrics import protocols
from walt_jax.parallel import multihost
from walt_jax.training import workdir as workdir_lib

WriteScalars = Callable[[pathlib.Path, int, Mapping[str, float]], None]


def follow(metric: metric_lib.Metric, request: requests_lib.EvaluationRequest,
           *, poll: float, write_scalars: WriteScalars) -> dict[str, Any]:
  """Scores every checkpoint until the last that the run will write.

  Each score becomes `eval/METRIC` of its step in the run's TensorBoard and
  `metrics.jsonl`, and a file in its `evaluation/`, by which a rerun knows what
  is done. A checkpoint that training removes first is passed over.

  Args:
    metric: Scores each checkpoint.
    request: Its `workdirs` are scored, at every step of the base.
    poll: Seconds between looks for a new checkpoint.
    write_scalars: `write_scalars(workdir, step, scalars)` adds them to the
      metrics of a run.

  Returns:
    The last result, with the `history` of all.
  """
  if request.drawing.step is not None:
    raise errors.UserError(
        f'--step {request.drawing.step} with --follow: it scores every '
        'checkpoint; leave one of them out')
  base = pathlib.Path(request.workdirs[0])
  config = workdir_lib.WorkDir(base).config()
  last = int(config['train']['num_steps'])
  records = _Records(request, base, write_scalars)
  told = False
  while True:
    step, is_over = _next(base, records, last)
    if step is not None:
      result = _score(metric, request, base, step)
      if result is None:
        records.skipped.add(step)
      else:
        records.add(step, result)
    elif is_over:
      break
    else:
      if not told and multihost.is_main():
        print(f'waiting for checkpoints of {base} up to step {last}',
              flush=True)
      told = True
      time.sleep(poll)
  if not records.history:
    raise errors.UserError(
        f'{base} had no checkpoint to score at its last step {last}; set '
        'train.save_every')
  return records.result()


def _next(base: pathlib.Path, records: '_Records',
          last: int) -> tuple[int | None, bool]:
  """The checkpoint to score now, if any, and whether no other will come.

  Several processes may not see the same files: the first one decides.
  """
  steps = workdir_lib.WorkDir(base).steps()
  waiting = [step for step in steps
             if step not in records.history and step not in records.skipped]
  found = np.array([min(waiting, default=-1),
                    bool(steps) and steps[-1] >= last], np.int64)
  if jax.process_count() > 1:
    found = multihost.gather(found)[0]
  return (int(found[0]) if found[0] >= 0 else None), bool(found[1])


def _score(metric: metric_lib.Metric,
           request: requests_lib.EvaluationRequest, base: pathlib.Path,
           step: int) -> dict[str, Any] | None:
  """The result of one checkpoint; None where it is gone by now."""
  try:
    return catalog.evaluate(metric, inputs_lib.Inputs(dataclasses.replace(
        request, drawing=dataclasses.replace(request.drawing, step=step))))
  except (errors.UserError, OSError, ValueError):
    if step in workdir_lib.WorkDir(base).steps():
      raise
    print(f'checkpoint {step} was removed before it was scored', flush=True)
    return None


class _Records:
  """Results by step, on disk and in the run's metrics.

  Attributes:
    history: Step -> result.
    skipped: Steps that were gone too soon.
  """

  def __init__(self, request: requests_lib.EvaluationRequest,
               base: pathlib.Path, write_scalars: WriteScalars):
    self._write_scalars = write_scalars
    self._folder, self._base = base / run_files.EVALUATION, base
    self._name = f'{request.metric}_{protocols.get(request.protocol).name}'
    self._folder.mkdir(parents=True, exist_ok=True)
    self.skipped: set[int] = set()
    self.history: dict[int, dict[str, Any]] = {}
    drawing, choice = request.drawing, request.drawing.choice
    wanted = dict(num_samples=drawing.num_samples, seed=request.seed,
                  steps=choice.steps, guidance=choice.guidance)
    self._wanted = json.loads(json.dumps(wanted))
    for path in sorted(self._folder.glob(f'{self._name}_step_*.json')):
      record = files.read_json(path)
      if record.get('asked') == self._wanted:
        step = int(path.stem.rsplit('_', 1)[-1])
        self.history[step] = record

  def add(self, step: int, result: dict[str, Any]) -> None:
    """Notes a score, in files of the first process alone."""
    record = result | dict(step=step, asked=self._wanted)
    self.history[step] = record
    if not multihost.is_main():
      return
    self._write_scalars(self._base, step, {
        f'eval/{name}': value
        for name, value in results.scalars(result).items()})
    results.write(
        self._folder / f'{self._name}_step_{step:08d}.json', record)
    print(f'step {step}: {result["metric"]} {result["value"]:.4g}',
          flush=True)

  def result(self) -> dict[str, Any]:
    """The newest, with all."""
    steps = sorted(self.history)
    history = [dict(step=step, value=self.history[step]['value'])
               for step in steps]
    return self.history[steps[-1]] | dict(history=history)
