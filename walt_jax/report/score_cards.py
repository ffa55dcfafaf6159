"""Scores and timings in the report."""
import collections
from collections.abc import Callable, Sequence
import html
import math
import pathlib
from typing import Any

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.media import samples
from walt_jax.report import charts
from walt_jax.report import clips
from walt_jax.report import scores_file

_MAX_TILES = 12
_MAX_TILES_A_GROUP = 3


def _read(folder: pathlib.Path | None) -> scores_file.Scores | None:
  """The scores, or None if there are none or they are of another format."""
  if folder is None:
    return None
  try:
    return scores_file.read_scores(folder)
  except errors.UserError:
    return None


def tiles(folder: pathlib.Path | None) -> str:
  """The scores in large figures, for the top of the page."""
  record = _read(folder)
  if record is None or not record.scores:
    return ''
  parts = []
  for score in _foremost(record.scores):
    group = f'{score.group} · ' if score.group else ''
    below = _interval(score.interval, score.unit)
    beside = [f'{baseline.name} {with_unit(baseline.value, score.unit)}'
              for baseline in score.baselines]
    if beside:
      below = f'{below}<br>' if below else ''
      below += html.escape('; '.join(beside))
    parts.append(
        f'<div class="card tile"><small class="name">{html.escape(group)}'
        f'{html.escape(score.name)}</small>'
        f'<b>{html.escape(with_unit(score.value, score.unit))}</b>'
        f'<small>{below}</small></div>')
  return f'<div class="tiles">{"".join(parts)}</div>'


def _foremost(scores: Sequence[scores_file.Score]) -> list[scores_file.Score]:
  """The first scores of each group, so that none is left out for another."""
  seen: collections.Counter[str] = collections.Counter()
  found = []
  for score in scores:
    seen[score.group] += 1
    if not score.group or seen[score.group] <= _MAX_TILES_A_GROUP:
      found.append(score)
  return found[:_MAX_TILES]


def score_section(folder: pathlib.Path | None) -> str:
  """Each score as bars beside its baselines, group by group."""
  if folder is None:
    return clips.missing(f'No {scores_file.FILE_NAME} here: '
                                '<code>walt evaluate</code> writes scores.')
  record = _read(folder)
  if record is None:
    return _foreign(folder / scores_file.FILE_NAME)
  parts = ['<p class="lead">Whiskers and brackets are 95% intervals; grey bars '
           'are baselines measured in the same way.</p>']
  for group in dict.fromkeys(score.group for score in record.scores):
    cards = ''.join(_score(score) for score in record.scores
                    if score.group == group)
    heading = f'<h3>{html.escape(group)}</h3>' if group else ''
    parts.append(f'{heading}<div class="scores">{cards}</div>')
  if record.settings:
    parts.append('<details><summary>Settings</summary><div class="card scroll">'
                 f'{_nested(record.settings)}</div></details>')
  return ''.join(parts)


def _score(score: scores_file.Score) -> str:
  bar = lambda item, main: charts.Bar(
      item.name if not main else 'this run', item.value,
      (with_unit(item.value, score.unit)
       + _brackets(item.interval, score.unit)),
      item.interval, main)
  bars = [bar(score, True),
          *(bar(baseline, False) for baseline in score.baselines)]
  facts = [f'{score.better} is better']
  if score.count is not None:
    facts.append(f'{score.count} clips')
  if score.target is not None:
    facts.append(f'dashed line: target {with_unit(score.target, score.unit)}')
  note = f'<p class="note">{html.escape(score.note)}</p>' if score.note else ''
  maximum = 1.0 if score.unit == 'fraction' else None
  return (f'<div class="card"><h4>{html.escape(score.name)} '
          f'<small>{html.escape(" · ".join(facts))}</small></h4>'
          f'{charts.bar_chart(bars, target=score.target, maximum=maximum)}'
          f'{note}</div>')


def timing_section(folder: pathlib.Path | None,
                   generated: Sequence[samples.SampleSet],
                   name: Callable[[pathlib.Path], str]) -> str:
  """Seconds by step of the run; else of the stages of each sampling."""
  record = _read(folder)
  timings = list(record.timings) if record else []
  if not timings:
    timings = [scores_file.Timing(f'{name(item.directory)}: {stage.name}',
                             stage.seconds)
               for item in generated for stage in item.stages
               if stage.seconds is not None]
  if not timings:
    return clips.missing('No timings were written.')
  steps = [item for item in timings if item.name != scores_file.WHOLE_RUN]
  whole = next(
      (item for item in timings if item.name == scores_file.WHOLE_RUN),
      scores_file.Timing('', sum(item.seconds for item in steps)))
  bars = [charts.Bar(item.name, item.seconds, _cost(item)) for item in steps]
  return (f'<div class="card">{charts.bar_chart(bars)}'
          f'<p class="note">In all {_cost(whole)}.</p></div>')


def _cost(timing: scores_file.Timing) -> str:
  memory = timing.peak_memory_bytes
  return duration(timing.seconds) + (
      f', {memory / 2**30:.2f} GiB' if memory else '')


def duration(seconds: float) -> str:
  """Seconds for people: '42.1 s', '3 min 05 s', '2 h 10 min'."""
  if seconds < 99.95 or not math.isfinite(seconds):
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 100:
    return f'{minutes} min {rest:02d} s'
  return f'{minutes // 60} h {minutes % 60:02d} min'


def with_unit(value: float, unit: str) -> str:
  """A score for people: '33.37 dB', '70.6%', '0.9909'."""
  if unit == 'fraction':
    return f'{100 * value:.1f}%'
  return f'{charts.number(value)} {unit}'.strip()


def _brackets(interval: tuple[float, float] | None, unit: str) -> str:
  if interval is None:
    return ''
  if unit == 'fraction':
    low, high = (f'{100 * bound:.1f}' for bound in interval)
  else:
    low, high = map(charts.number, interval)
  return f' [{low}, {high}]'


def _interval(interval: tuple[float, float] | None, unit: str) -> str:
  return (html.escape(f'95% interval{_brackets(interval, unit)}')
          if interval else '')


def _foreign(path: pathlib.Path) -> str:
  """Scores of another format, as nested tables of whatever they hold."""
  try:
    content = files.read_json(path)
  except errors.UserError as error:
    return clips.missing(html.escape(f'{error}.'))
  return f'<div class="card scroll">{_nested(content)}</div>'


def _nested(content: Any) -> str:
  if isinstance(content, dict):
    rows = ''.join(f'<tr><th>{html.escape(str(key))}</th>'
                   f'<td>{_nested(value)}</td></tr>'
                   for key, value in content.items())
    return f'<table>{rows}</table>'
  if isinstance(content, list):
    if all(not isinstance(item, (dict, list)) for item in content):
      return ', '.join(map(_nested, content))
    return ''.join(map(_nested, content))
  if isinstance(content, float):
    return html.escape(charts.number(content))
  return html.escape('' if content is None else str(content))
