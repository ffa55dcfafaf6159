"""What a work directory holds: names of its files, and its metrics."""
from collections.abc import Mapping
import dataclasses
import math
import os
from typing import Any

from walt_jax.core import json_text
from walt_jax.core import paths

CONFIG = 'config.json'
METRICS = 'metrics.jsonl'
# Lines of steps that were taken again, from an older checkpoint.
DROPPED_METRICS = 'metrics_dropped.jsonl'
TIMING = 'timing.json'
HISTORY = 'history.jsonl'  # Starts, saves and ends of a run.
CHECKPOINTS = 'checkpoints'  # A folder a step, written by Orbax.
DAMAGED = 'damaged.json'  # In a checkpoint: it is not to be used, and why.
IMAGES = 'eval'  # Pictures of held-out rows, step_00000100_NAME.png.
TENSORBOARD = 'tensorboard'
PROFILE = 'profile'
PROFILE_REQUEST = 'profile_now'  # Asks a run under way for a trace.
WANDB = 'wandb.json'  # What W&B knows the run by.
LEASE = 'lease'  # Says which run writes here.
REPLAY = 'replay'  # Bundles of steps whose values were not finite.
EVALUATION = 'evaluation'  # Scores, and what was computed for them.
TOKENIZER = 'tokenizer'  # A denoiser's copy of its tokenizer's export.
TOKEN = '.walt_token'  # The secret of hosts that run together.
EXPORT = 'export'  # The export of a tokenizer.
_COMMITTED = 'commit_success.txt'


def checkpoint_steps(workdir: str | os.PathLike) -> list[int]:
  """The steps of a run's whole checkpoints, in order, damaged ones left out."""
  return [step for step, is_damaged in _whole(workdir) if not is_damaged]


def damaged_steps(workdir: str | os.PathLike) -> list[int]:
  """The steps of a run's checkpoints that were found damaged, in order."""
  return [step for step, is_damaged in _whole(workdir) if is_damaged]


def _whole(workdir: str | os.PathLike) -> list[tuple[int, bool]]:
  """Steps of whole checkpoints, and whether each is marked as damaged."""
  folder = paths.path(workdir) / CHECKPOINTS
  if not folder.is_dir():
    return []
  # Orbax renames a checkpoint to its number when it is whole; in a bucket,
  # where nothing is renamed, it then adds a file.
  is_remote = paths.is_remote(folder)
  return sorted((int(path.name), (path / DAMAGED).is_file())
                for path in folder.iterdir()
                if path.name.isdigit() and (
                    not is_remote or (path / _COMMITTED).is_file()))


def newest_step(workdir: str | os.PathLike) -> int | None:
  """The step of a run's newest whole checkpoint."""
  return max(checkpoint_steps(workdir), default=None)


def is_timing(name: str) -> bool:
  """Whether a scalar tells of time, which no two runs have equal."""
  return name.startswith('perf/') or name == 'train/mfu'


@dataclasses.dataclass(frozen=True)
class Metrics:
  """The lines of a `metrics.jsonl`.

  Attributes:
    lines: One object a line, with `step` and scalars by name, in order.
    unreadable: Number of lines that hold no such object. A run that was
      killed may end in half a line.
  """
  lines: tuple[Mapping[str, Any], ...] = ()
  unreadable: int = 0

  def learnt(self) -> list[dict[str, Any]]:
    """The lines without timings: equal in runs that learn the same."""
    return [{name: value for name, value in line.items()
             if not is_timing(name)} for line in self.lines]

  def curves(self) -> dict[str, dict[float, float]]:
    """Values by name and step; the last one written of a step counts."""
    values: dict[str, dict[float, float]] = {}
    for line in self.lines:
      for name, value in line.items():
        if name != 'step' and isinstance(value, (int, float)) and (
            not isinstance(value, bool)):
          values.setdefault(name, {})[line['step']] = _as_float(value)
    return values


def _as_float(value: float) -> float:
  """A number; infinity for a whole one of hundreds of digits."""
  try:
    float(value)
  except OverflowError:
    return math.inf
  return value


def read_metrics(workdir: str | os.PathLike) -> Metrics:
  """Reads the metrics of a run; a run without any has no lines."""
  path = paths.path(workdir) / METRICS
  if not path.exists():
    return Metrics()
  lines, unreadable = [], 0
  for text in path.read_bytes().decode(errors='replace').splitlines():
    try:
      line = json_text.loads(text)
    except ValueError:
      line = None
    if isinstance(line, dict) and isinstance(
        line.get('step'), (int, float)) and math.isfinite(
            _as_float(line['step'])):
      lines.append(line)
    else:
      unreadable += 1
  return Metrics(tuple(lines), unreadable)
