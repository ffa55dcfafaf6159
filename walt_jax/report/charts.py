"""Charts as strings of SVG and HTML, coloured by the page's CSS variables."""
from collections.abc import Sequence
import dataclasses
import html
import json
import math

_WIDTH, _HEIGHT = 640, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 30
# What an axis shows: values, steps, and the difference of its ends.
_MOST, _MOST_STEPS, _LEAST_SPAN = 1e30, 1e15, 1e-9
_MAX_POINTS = 500
_SMOOTH_FROM = 60  # Points of a noisy series from which a mean is drawn.
_LOG_RATIO = 20  # Largest over smallest value from which the axis is a log.
NUM_COLOURS = 8


@dataclasses.dataclass(frozen=True)
class Series:
  """One line of a chart.

  Attributes:
    name: Name in the legend.
    steps: x.
    values: y; values that are not finite, or beyond any axis, are left out.
    noisy: Draw a running mean over the faint values.
  """
  name: str
  steps: Sequence[float]
  values: Sequence[float]
  noisy: bool = False


def number(value: float) -> str:
  """A number for people: 4 significant digits."""
  if value is None or not math.isfinite(value):
    return '–' if value is None else str(value)
  if value == int(value) and abs(value) < 1e6:
    return f'{int(value):,}'
  if 1e-3 <= abs(value) < 1e5:
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f'{value:,.{digits}f}'
  return f'{value:.3g}'


def line_chart(series: Sequence[Series], *, label: str) -> str:
  """Draws series over training steps as a figure with a legend.

  Args:
    series: One line or more; those without a finite value are left out.
    label: Text for screen readers, and the heading.

  Returns:
    A `<figure>`; '' if nothing can be drawn.
  """
  cleaned = [(line, _finite(line)) for line in series]
  cleaned = [(line, points) for line, points in cleaned if points]
  if not cleaned:
    return ''
  x_scale, y_scale, axes = _axes([points for _, points in cleaned])
  shapes, data = [], []
  for index, (line, points) in enumerate(cleaned):
    colour = f's{index % NUM_COLOURS}'
    strong = points
    if line.noisy and len(points) >= _SMOOTH_FROM:
      shapes.append(_path(_thin(points), x_scale, y_scale, f'{colour} raw'))
      strong = _smooth(points)
    strong = _thin(strong)
    shapes.append(_path(strong, x_scale, y_scale, colour))
    data.append(dict(name=line.name, colour=index % NUM_COLOURS, points=[
        [x, y, round(x_scale(x), 1), round(y_scale(y), 1)] for x, y in strong]))
  legend = ''.join(
      f'<span class="key"><i class="s{i % NUM_COLOURS}"></i>'
      f'{html.escape(line.name)} <b>{number(points[-1][1])}</b></span>'
      for i, (line, points) in enumerate(cleaned))
  drawn = html.escape(json.dumps(data, separators=(',', ':')))
  return (
      f'<figure class="chart"><figcaption>{html.escape(label)}</figcaption>'
      f'<div class="legend">{legend}</div>'
      f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
      f'aria-label="{html.escape(label)}" data-series="{drawn}">'
      f'{axes}{"".join(shapes)}<g class="hover"></g></svg></figure>')


def _finite(line: Series) -> list[tuple[float, float]]:
  """Points in order of steps; of several at one step the last one counts."""
  points = {float(x): float(y)
            for x, y in zip(line.steps, line.values, strict=True)
            if y is not None and abs(y) < _MOST and abs(x) < _MOST_STEPS}
  return sorted(points.items())


def _thin(points):
  """At most `_MAX_POINTS` of the points, with the last."""
  if len(points) <= _MAX_POINTS:
    return points
  stride = -(-len(points) // _MAX_POINTS)
  return points[:-1:stride] + points[-1:]


def _smooth(points):
  """Exponential running mean over about a fortieth of the points."""
  decay = 1 - 1 / max(2, len(points) / 40)
  mean, weight, smoothed = 0.0, 0.0, []
  for x, y in points:
    mean = decay * mean + (1 - decay) * y
    weight = decay * weight + (1 - decay)
    smoothed.append((x, mean / weight))
  return smoothed


def _path(points, x_scale, y_scale, classes: str) -> str:
  if len(points) == 1:
    (x, y), = points
    return (f'<circle class="{classes}" cx="{x_scale(x):.1f}" '
            f'cy="{y_scale(y):.1f}" r="3"/>')
  steps = 'L'.join(f'{x_scale(x):.1f} {y_scale(y):.1f}' for x, y in points)
  return f'<path class="{classes}" d="M{steps}"/>'


def _axes(lines):
  """Returns x and y scales (value -> pixel) and the SVG of grid and ticks."""
  xs = [x for points in lines for x, _ in points]
  ys = [y for points in lines for _, y in points]
  x_low, x_high = min(xs), max(xs)
  if x_low == x_high:
    x_low, x_high = x_low - 1, x_high + 1
  # The axis fits all but rare spikes: they would flatten everything else.
  ys.sort()
  ends = [points[-1][1] for points in lines]
  low = min(ys[math.floor(0.005 * (len(ys) - 1))], *ends)
  high = max(ys[math.ceil(0.995 * (len(ys) - 1))], *ends)
  logarithmic = low > 1 / _MOST and high / low > _LOG_RATIO
  forward = math.log10 if logarithmic else float
  if high - low <= _LEAST_SPAN * max(abs(low), abs(high)):
    pad = max(abs(low), abs(high)) * 0.1
    pad = pad if pad > 1 / _MOST else 1.0
    low, high = low - pad, high + pad
  bottom, top = forward(low), forward(high)
  margin = 0.04 * (top - bottom)
  bottom, top = bottom - margin, top + margin

  def x_scale(x: float) -> float:
    return _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

  def y_scale(y: float) -> float:
    y = forward(y) if y > 0 or not logarithmic else bottom
    share = min(1.0, max(0.0, (y - bottom) / (top - bottom)))
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

  ticks = (_log_ticks(low, high) if logarithmic
           else _linear_ticks(low, high, 5))
  parts = [
      f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
      f'y1="{y_scale(y):.1f}" y2="{y_scale(y):.1f}"/>'
      f'<text x="{_LEFT - 8}" y="{y_scale(y) + 4:.1f}" class="end">'
      f'{_tick(y)}</text>' for y in ticks]
  parts += [
      f'<text x="{x_scale(x):.1f}" y="{_HEIGHT - 8}" class="middle">'
      f'{_tick(x)}</text>'
      for x in _linear_ticks(x_low, x_high, 6) if x == int(x)]
  return x_scale, y_scale, ''.join(parts)


def _linear_ticks(low: float, high: float, count: int) -> list[float]:
  rough = (high - low) / count
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [float(f'{number * step:.10g}') for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
  decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  marks = (1, 2, 5) if len(decades) <= 4 else (1,)
  return [m * 10.0 ** d for d in decades for m in marks
          if low <= m * 10.0 ** d <= high]


def _tick(value: float) -> str:
  if abs(value) >= 1e6:
    return f'{value / 1e6:g}M'
  if abs(value) >= 1e4:
    return f'{value / 1e3:g}k'
  return f'{value:g}'


@dataclasses.dataclass(frozen=True)
class Bar:
  """One row of a bar chart: a value with its interval, as text too."""
  name: str
  value: float
  text: str
  interval: tuple[float, float] | None = None
  main: bool = False


def bar_chart(bars: Sequence[Bar], *, target: float | None = None,
              maximum: float | None = None) -> str:
  """Draws bars from 0 with 95% whiskers; `main` ones stand out.

  Args:
    bars: Rows from top to bottom.
    target: Marked by a line through all rows.
    maximum: Right end of the scale; by default the largest value.
  """
  reached = [x for bar in bars for x in (bar.value, *(bar.interval or ()))
             if math.isfinite(x)]
  right = maximum or max([*reached, target or 0, 1e-12])
  share = lambda x: 100 * min(max(x / right, 0), 1) if math.isfinite(x) else 0
  rows = []
  for bar in bars:
    whisker = ''
    if bar.interval:
      low, high = map(share, bar.interval)
      whisker = (f'<u style="left:{low:.2f}%;width:{max(high - low, 0):.2f}%">'
                 '</u>')
    mark = ('' if target is None
            else f'<s style="left:{share(target):.2f}%"></s>')
    rows.append(
        f'<div class="bar{" main" if bar.main else ""}">'
        f'<span>{html.escape(bar.name)}</span><div class="track">'
        f'<i style="width:{share(bar.value):.2f}%"></i>{whisker}{mark}</div>'
        f'<span class="value">{html.escape(bar.text)}</span></div>')
  return f'<div class="bars">{"".join(rows)}</div>'
