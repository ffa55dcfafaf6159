"""Work directories in the report: curves, sample grids, config."""
import base64
from collections.abc import Callable, Sequence
import functools
import html
import math
import pathlib
import re

from walt_jax.core import run_files
from walt_jax.report import cards
from walt_jax.report import charts

_LOSSES = ('loss', 'v_loss', 'ema_loss', 'total_loss')
_HELD_OUT = 'eval/'
_QUALITY = 'eval/psnr'  # What a tokenizer writes instead of a held-out loss.
_PART = re.compile(r'(?P<name>.+)_q(?P<part>\d+)$')  # Quartiles of time.
_MAX_IMAGES = 4


def curves(workdirs: Sequence[pathlib.Path],
           name: Callable[[pathlib.Path], str]) -> str:
  """Loss curves, other curves, latest sample grids, config of each run."""
  if not workdirs:
    return ('<p class="card missing">No work directory here: <code>walt train'
            '</code> writes them.</p>')
  return ''.join(
      cards.or_problem(name(path), functools.partial(
          _workdir, path, name(path))) for path in workdirs)


def _workdir(path: pathlib.Path, name: str) -> str:
  metrics = run_files.read_metrics(path)
  values, unreadable = metrics.curves(), metrics.unreadable
  steps = [step for series in values.values() for step in series]
  lead = f'{charts.number(max(steps))} steps.' if steps else 'No step yet.'
  if unreadable:
    lead += f' {unreadable} unreadable line(s) in {run_files.METRICS}.'
  bad = sum(not math.isfinite(value) for series in values.values()
            for value in series.values())
  if bad:
    lead += f' {bad} values are not finite.'
  losses = [key for key in values if key.rsplit('/', 1)[-1] in _LOSSES]
  losses.sort(key=lambda key: not key.startswith('train/'))
  matches = {key: _PART.match(key) for key in values}
  parts = {key: found['name'] for key, found in matches.items() if found}
  others = [key for key in values if key not in losses and key not in parts
            and key != _QUALITY]
  main = [_chart(values, losses, 'Loss')]
  if _QUALITY in values:
    main.append(_chart(values, [_QUALITY], 'PSNR of held-out clips, dB'))
  if not any(key.startswith(_HELD_OUT) for key in values):
    lead += ' No held-out score was written.'
  for family in sorted(set(parts.values())):
    keys = sorted(key for key in parts if parts[key] == family)
    label = f'{family.rsplit("/", 1)[-1]} by quarter of diffusion time'
    main.append(_chart(values, keys, label + ' (q1 nearly clean)'))
  small = [_chart(values, [key], key) for key in sorted(others)]
  return (
      f'<h3>{html.escape(name)}</h3><p class="lead">{html.escape(lead)}</p>'
      f'<div class="charts">{"".join(_in_cards(main))}</div>'
      + _details('Other curves', '<div class="charts small">'
                 f'{"".join(_in_cards(small))}</div>' if any(small) else '')
      + _details('Latest held-out pictures', _images(path / run_files.IMAGES))
      + _details('Config', _config(path / run_files.CONFIG)))


def _chart(values, keys: Sequence[str], label: str) -> str:
  return charts.line_chart(
      [charts.Series(key, list(values[key]), list(values[key].values()),
                     noisy=key.startswith('train/')) for key in keys],
      label=label)


def _in_cards(figures: Sequence[str]) -> list[str]:
  return [f'<div class="card">{figure}</div>' for figure in figures if figure]


def _details(summary: str, content: str) -> str:
  if not content:
    return ''
  return f'<details><summary>{summary}</summary>{content}</details>'


def _images(folder: pathlib.Path) -> str:
  """The pictures of the last evaluation, `step_00000100_NAME.png`."""
  files = sorted(folder.glob('*.png')) if folder.is_dir() else []
  if not files:
    return ''
  last = files[-1].name.split('_')[:2]
  parts = []
  shown = [file for file in files if file.name.split('_')[:2] == last]
  for file in shown[:_MAX_IMAGES]:
    data = base64.b64encode(file.read_bytes()).decode()
    title = html.escape(file.stem.replace('_', ' '))
    parts.append(f'<figure class="chart card"><figcaption>{title}</figcaption>'
                 f'<img class="sheet" alt="{title}" '
                 f'src="data:image/png;base64,{data}"></figure>')
  return ''.join(parts)


def _config(path: pathlib.Path) -> str:
  if not path.is_file():
    return ''
  text = path.read_text(encoding='utf-8', errors='replace')
  return f'<pre class="card">{html.escape(text)}</pre>'
