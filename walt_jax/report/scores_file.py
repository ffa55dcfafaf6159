"""`scores.json`: scores of a run, with baselines measured in the same way."""
from collections.abc import Mapping, Sequence
import dataclasses
import os
from typing import Any

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import json_kinds
from walt_jax.core import paths

FILE_NAME = 'scores.json'
FORMAT = 1
WHOLE_RUN = 'all'  # Name of the timing of all steps together.
_BASELINES = 'yardsticks'  # The key's name in format 1.


@dataclasses.dataclass(frozen=True)
class Baseline:
  """The same measure of something known, such as real clips."""
  name: str
  value: float
  interval: tuple[float, float] | None = None
  count: int | None = None


@dataclasses.dataclass(frozen=True)
class Score:
  """One measured value.

  Attributes:
    name: Such as 'Digit accuracy'.
    value: A number; fractions have the unit 'fraction'.
    group: Heading that it stands under, such as 'Base' or 'Tokenizer'.
    unit: '', 'dB', 'fraction', ..
    interval: 95% interval, or None.
    count: Clips or samples measured.
    better: 'higher' or 'lower'.
    target: Value to reach, or None.
    baselines: The same measure of things that are known.
    note: One sentence for the reader.
  """
  name: str
  value: float
  group: str = ''
  unit: str = ''
  interval: tuple[float, float] | None = None
  count: int | None = None
  better: str = 'higher'
  target: float | None = None
  baselines: tuple[Baseline, ...] = ()
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Timing:
  """How long a step of the run took."""
  name: str
  seconds: float
  peak_memory_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
  """Everything in a `scores.json`; `settings` holds any JSON values."""
  scores: tuple[Score, ...] = ()
  timings: tuple[Timing, ...] = ()
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# What `scores.json` holds.
_FORM: json_kinds.Kind = {
    'scores': list[Score], 'timings': list[Timing],
    'settings': Mapping[str, Any]}


def write_scores(directory: str | os.PathLike, scores: Sequence[Score],
                 timings: Sequence[Timing] = (),
                 settings: Mapping[str, Any] | None = None) -> None:
  """Writes DIR/scores.json, whole or not at all."""
  for score in scores:
    if score.better not in ('higher', 'lower'):
      raise ValueError(f"better must be 'higher' or 'lower', got {score}.")
  record = Scores(tuple(scores), tuple(timings), settings or {})
  content = dict(format=FORMAT, **dataclasses.asdict(record))
  for fields in content['scores']:
    fields[_BASELINES] = fields.pop('baselines')
  files.write_json(paths.path(directory) / FILE_NAME, content)


def read_scores(directory: str | os.PathLike) -> Scores:
  """Reads DIR/scores.json.

  Raises:
    errors.UserError: No such file, or not one of this format.
  """
  path = paths.path(directory) / FILE_NAME
  content = files.read_json(path)
  try:
    if content['format'] != FORMAT:
      raise ValueError(f'only format {FORMAT} is known')
    json_kinds.check(content, _FORM)
    return Scores(tuple(map(_score, content['scores'])),
                  tuple(Timing(**timing) for timing in content['timings']),
                  content['settings'])
  except (KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
        f'{path} does not hold scores of this version: '
        f'{errors.words(error)}') from None


def _interval(fields: dict[str, Any]) -> dict[str, Any]:
  if fields.get('interval') is not None:
    low, high = fields['interval']
    fields = fields | dict(interval=(low, high))
  return fields


def _score(fields: dict[str, Any]) -> Score:
  json_kinds.check(fields[_BASELINES], list[Baseline], _BASELINES)
  baselines = tuple(Baseline(**_interval(fields))
                     for fields in fields[_BASELINES])
  rest = {key: value for key, value in _interval(fields).items()
          if key != _BASELINES}
  return Score(**rest, baselines=baselines)
