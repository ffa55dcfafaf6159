"""Scores of `--follow` by step, on disk and in the run's metrics."""
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.evaluation import requests as requests_lib
from walt_jax.evaluation import results
from walt_jax.metrics import protocols
from walt_jax.parallel import multihost

WriteScalars = Callable[[pathlib.Path, int, Mapping[str, float]], None]
# What does not change a score, or is another one's in each record.
_FREE = ('workdirs', 'batch_size', 'cache', 'allow_code', 'step',
         'save_samples', 'save_statistics', 'made_by')


class Records:
  """Results by step, by which a rerun knows what is done.

  Attributes:
    history: Step -> result.
  """

  def __init__(self, request: requests_lib.EvaluationRequest,
               write_scalars: WriteScalars):
    """Reads what an earlier call for the same scores left.

    Args:
      request: What is asked for; its first work directory is the run.
      write_scalars: `write_scalars(workdir, step, scalars)` adds them to the
        metrics of a run.
    """
    self._base = paths.path(request.workdirs[0])
    self._write_scalars = write_scalars
    self._folder = self._base / run_files.EVALUATION
    self._name = f'{request.metric}_{protocols.get(request.protocol).name}'
    self._asked = asked(request)
    self.history: dict[int, dict[str, Any]] = {}
    for path in sorted(self._folder.glob(f'{self._name}_step_*.json')):
      record = files.read_json(path)
      if record.get('asked') == self._asked:
        self.history[int(path.stem.rsplit('_', 1)[-1])] = record

  def add(self, step: int, result: dict[str, Any]) -> None:
    """Notes a score, in files of the first process alone."""
    record = result | dict(step=step, asked=self._asked)
    self.history[step] = record
    if not multihost.is_main():
      return
    self._write_scalars(self._base, step, {
        f'eval/{name}': value
        for name, value in results.scalars(result).items()})
    paths.make_folder(self._folder)
    results.write(
        self._folder / f'{self._name}_step_{step:08d}.json', record)
    print(f'step {step}: {result["metric"]} {result["value"]:.4g}',
          flush=True)

  def result(self, missed: Sequence[int]) -> dict[str, Any]:
    """The newest score, with the `history` of all.

    Args:
      missed: Steps of checkpoints that were gone too soon.
    """
    steps = sorted(self.history)
    history = [dict(step=step, value=self.history[step]['value'])
               for step in steps]
    return self.history[steps[-1]] | dict(
        history=history, missed=list(missed))


def asked(request: requests_lib.EvaluationRequest) -> dict[str, Any]:
  """What a score depends on, JSON values; what is as by default is left out.

  The stages after the base are part of it, the base is not: it can be moved.
  """
  found = _changed(request)
  if len(request.workdirs) > 1:
    found['after'] = list(request.workdirs[1:])
  return json.loads(json.dumps(found))


def _changed(options: Any) -> dict[str, Any]:
  """Fields of a dataclass that are not as by default, nested ones alike."""
  found: dict[str, Any] = {}
  for field in dataclasses.fields(options):
    value = getattr(options, field.name)
    if field.name in _FREE or value == field.default:
      continue
    found[field.name] = (
        _changed(value) if dataclasses.is_dataclass(value) else value)
  return {name: value for name, value in found.items() if value != {}}
