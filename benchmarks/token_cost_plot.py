"""The plot of `token_cost`: time a token against tokens of a clip."""
from collections.abc import Sequence
import math
import pathlib
from typing import Any

from walt_jax.core import files

PATH = pathlib.Path(__file__).parents[1] / 'docs' / 'token_cost.svg'
_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 44, 48
_COLOURS = dict(windows='#1f6fb4', full='#c4532a')
_NAMES = dict(windows='windows (1x16x16, 5x8x8)', full='full attention')


def write(rows: Sequence[dict[str, Any]]) -> None:
  """Writes the plot of the rows that have a time."""
  files.write_text(PATH, svg([row for row in rows if 'seconds' in row]))


def svg(rows: Sequence[dict[str, Any]]) -> str:
  """A chart of two logarithmic axes, microseconds over tokens of a clip."""
  x_of = _scale([row['clip_tokens'] for row in rows], _LEFT, _WIDTH - _RIGHT)
  times = [1e6 * row['seconds_a_token'] for row in rows]
  y_of = _scale(times, _HEIGHT - _BOTTOM, _TOP)
  parts = [
      f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" '
      f'height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
      'font-family="sans-serif" font-size="12">',
      f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>']
  for tick in _ticks([row['clip_tokens'] for row in rows]):
    parts.append(_line(x_of(tick), _TOP, x_of(tick), _HEIGHT - _BOTTOM))
    parts.append(_text(x_of(tick), _HEIGHT - _BOTTOM + 16, f'{tick:,.0f}'))
  for tick in _ticks(times):
    parts.append(_line(_LEFT, y_of(tick), _WIDTH - _RIGHT, y_of(tick)))
    parts.append(_text(_LEFT - 6, y_of(tick) + 4, f'{tick:g}', 'end'))
  parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 10, 'tokens of a clip'))
  parts.append(_text(_LEFT - 52, 14, 'microseconds a token, train step of two '
                     f'layers, ledger of {rows[0]["topology"]}', 'start'))
  for index, (form, colour) in enumerate(_COLOURS.items()):
    points = sorted((row['clip_tokens'], 1e6 * row['seconds_a_token'])
                    for row in rows if row['form'] == form)
    corners = ' '.join(f'{x_of(x):.1f},{y_of(y):.1f}' for x, y in points)
    parts.append(f'<polyline points="{corners}" fill="none" '
                 f'stroke="{colour}" stroke-width="2"/>')
    parts += [f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="4" '
              f'fill="{colour}"/>' for x, y in points]
    left = _LEFT + 200 * index
    parts.append(f'<circle cx="{left}" cy="30" r="4" fill="{colour}"/>')
    parts.append(_text(left + 10, 34, _NAMES[form], 'start'))
  return '\n'.join([*parts, '</svg>', ''])


def _scale(values, low, high):
  """Maps the span of `values`, a little more, to [low, high] by logarithm."""
  first, last = math.log(min(values) / 1.15), math.log(max(values) * 1.15)
  return lambda value: low + (high - low) * (
      math.log(value) - first) / (last - first)


def _ticks(values):
  """1, 2 and 5 times powers of ten, within the span of `values`."""
  exponents = range(math.floor(math.log10(min(values))),
                    math.ceil(math.log10(max(values))) + 1)
  ticks = [step * 10.0 ** exponent for exponent in exponents
           for step in (1, 2, 5)]
  return [tick for tick in ticks
          if min(values) / 1.15 <= tick <= max(values) * 1.15]


def _line(x1, y1, x2, y2):
  return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
          'stroke="#ddd"/>')


def _text(x, y, text, anchor='middle'):
  return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
          f'fill="#333">{text}</text>')
