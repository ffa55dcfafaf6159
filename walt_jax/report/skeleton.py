"""Skeleton, style and script of the pages: one file, nothing fetched.

Used by reports of runs and by plans.
"""
from collections.abc import Sequence
import html

import walt_jax

# Anchor, heading as plain text, HTML.
Section = tuple[str, str, str]

_STYLE = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b1f27; --dim: #626b7a;
  --line: #e2e6ec; --accent: #3457d5; --soft: #e8edfc; --bar: #b8c3d6;
  --c0: #3457d5; --c1: #d9622b; --c2: #198754; --c3: #a03bb0;
  --c4: #b58900; --c5: #0f8ea3; --c6: #c2304f; --c7: #6b7280; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12151b; --card: #1b2029; --ink: #e8ebf1; --dim: #98a2b3;
  --line: #2e3644; --accent: #8aa4ff; --soft: #25304d; --bar: #48536a;
  --c0: #8aa4ff; --c1: #ff9a66; --c2: #54c98b; --c3: #d98be6;
  --c4: #e3bd4a; --c5: #53c7dc; --c6: #ff7d97; --c7: #aab2c0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
header { background: var(--card); border-bottom: 1px solid var(--line);
  position: sticky; top: 0; z-index: 5; }
header > div { max-width: 1240px; margin: auto; padding: 10px 24px;
  display: flex; flex-wrap: wrap; gap: 4px 22px; align-items: center; }
header h1 { font-size: 17px; margin: 0; letter-spacing: -.01em; }
header nav { display: flex; flex-wrap: wrap; gap: 2px 16px; flex: 1; }
header button { font: inherit; border: 1px solid var(--line); padding: 2px 12px;
  border-radius: 7px; background: var(--page); color: var(--ink);
  cursor: pointer; }
header button:hover { border-color: var(--accent); }
main { max-width: 1240px; margin: auto; padding: 8px 24px 64px; }
section { margin-top: 34px; scroll-margin-top: 64px; }
h2 { font-size: 21px; letter-spacing: -.015em; margin: 0 0 4px; }
h3 { font-size: 15.5px; margin: 22px 0 8px; }
p.lead { color: var(--dim); margin: 0 0 14px; max-width: 78ch; }
.card { background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; padding: 14px 16px; min-width: 0; }
.missing { color: var(--dim); border-style: dashed; }
.tiles { display: grid; gap: 12px; margin-top: 20px;
  grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); }
.tile b { display: block; font-size: 25px; letter-spacing: -.02em;
  line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile small { color: var(--dim); display: block; line-height: 1.35; }
.tile .name { font-weight: 600; color: var(--ink); }
.clips { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 270px), 1fr)); }
.clips.wide { grid-template-columns:
  repeat(auto-fill, minmax(min(100%, 460px), 1fr)); }
.clips figure { margin: 0; }
.clips .row { display: grid; grid-auto-flow: column; gap: 8px;
  grid-auto-columns: minmax(0, 1fr); }
.clips video, .clips img { width: 100%; display: block; border-radius: 8px;
  background: var(--page); image-rendering: pixelated; cursor: pointer; }
.clips .row small { color: var(--dim); display: block; text-align: center;
  font-size: 12px; margin-top: 3px; }
.clips .row .real small { color: var(--c2); }
.clips .none small { color: var(--dim) !important; }
.clips .none { aspect-ratio: 1; border: 1px dashed var(--line);
  border-radius: 8px; display: grid; place-items: center; padding: 6px; }
figcaption { font-weight: 600; margin-bottom: 8px; overflow-wrap: anywhere; }
figcaption small { font-weight: 400; color: var(--dim); }
.charts { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); }
.charts.small { grid-template-columns:
  repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }
.chart { margin: 0; position: relative; }
.chart svg { width: 100%; display: block; overflow: visible; }
.chart path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart circle { stroke: none; }
.chart .raw { opacity: .25; stroke-width: 1; }
.chart text { fill: var(--dim); font-size: 12px; }
.charts.small .chart text { font-size: 19px; }
.charts.small .chart path { stroke-width: 3; }
.chart .end { text-anchor: end; } .chart .middle { text-anchor: middle; }
.chart .grid { stroke: var(--line); }
.chart .hover line { stroke: var(--dim); stroke-dasharray: 3 3; }
.chart .hover circle { stroke: var(--card); stroke-width: 2; }
.tip { position: absolute; pointer-events: none; background: var(--ink);
  color: var(--page); border-radius: 7px; padding: 5px 9px; font-size: 12.5px;
  white-space: nowrap; transform: translate(-50%, 0); z-index: 3; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin-bottom: 6px;
  font-size: 13px; color: var(--dim); }
.legend b { color: var(--ink); font-weight: 600;
  font-variant-numeric: tabular-nums; }
.legend i { display: inline-block; width: 14px; height: 3px; margin-right: 6px;
  vertical-align: middle; border-radius: 2px; background: currentColor; }
COLOURS
.bar { display: grid; align-items: center; gap: 12px; padding: 3px 0;
  grid-template-columns: minmax(110px, 220px) 1fr minmax(90px, 190px);
  font-variant-numeric: tabular-nums; color: var(--dim); font-size: 14px; }
.bar.main { color: var(--ink); font-weight: 600; }
.bar .track { position: relative; height: 16px; border-radius: 4px;
  background: var(--page); }
.bar .track i { position: absolute; inset: 0 auto 0 0; border-radius: 4px;
  background: var(--bar); min-width: 2px; }
.bar.main .track i { background: var(--accent); }
.bar .track u { position: absolute; top: 7px; height: 2px; min-width: 2px;
  background: var(--ink); }
.bar .track s { position: absolute; top: -3px; bottom: -3px; width: 0;
  border-left: 2px dashed var(--c6); }
.scores { display: grid; gap: 12px; }
.scores h4 { margin: 0; font-size: 15px; }
.scores h4 small, .note { font-weight: 400; color: var(--dim);
  font-size: 13.5px; }
.note { margin: 4px 0 0; }
.scroll { overflow-x: auto; }
.scroll + .scroll { margin-top: 12px; }
.stack { display: flex; height: 26px; margin: 8px 0; border-radius: 6px;
  overflow: hidden; background: var(--bar); }
.yes { color: var(--c2); } .no { color: var(--c6); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: 14px; width: 100%; }
th, td { text-align: left; padding: 5px 14px 5px 0; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { color: var(--dim); font-weight: 600; white-space: nowrap; }
tr:last-child > td, tr:last-child > th { border-bottom: 0; }
td.num, th.num { text-align: right; }
code { font: 12.5px ui-monospace, Menlo, Consolas, monospace; }
details { margin-top: 12px; }
summary { cursor: pointer; color: var(--accent); }
pre { overflow: auto; max-height: 420px; margin: 10px 0 0;
  font: 12.5px/1.5 ui-monospace, Menlo, Consolas, monospace; }
.sheet { max-width: 100%; border-radius: 8px; image-rendering: pixelated; }
footer { color: var(--dim); font-size: 13px; margin-top: 44px; }
@media (max-width: 640px) {
  main, header > div { padding-left: 14px; padding-right: 14px; }
  header { position: static; } header nav { order: 3; flex-basis: 100%; }
  .chart text, .charts.small .chart text { font-size: 22px; }
  .bar { grid-template-columns: 1fr auto; gap: 2px 10px; }
  .bar .track { grid-column: 1 / -1; grid-row: 2; } }
@media print { header { position: static; } header button { display: none; } }
""".replace('COLOURS', '\n'.join(
    f'.s{i} {{ stroke: var(--c{i}); }} '
    f'circle.s{i} {{ fill: var(--c{i}); }} i.s{i} {{ color: var(--c{i}); }}'
    for i in range(8)))

_SCRIPT = """
'use strict';
const videos = [...document.querySelectorAll('video')];
const button = document.getElementById('play');
let playing = !matchMedia('(prefers-reduced-motion: reduce)').matches;
const visible = new Set();
const show = video => playing && visible.has(video)
  ? video.play().catch(() => {}) : video.pause();
const refresh = () => {
  button.textContent = playing ? 'Pause clips' : 'Play clips';
  videos.forEach(show);
};
if (videos.length) {
  const watcher = new IntersectionObserver(entries => entries.forEach(e => {
    e.isIntersecting ? visible.add(e.target) : visible.delete(e.target);
    show(e.target);
  }), {rootMargin: '200px'});
  videos.forEach(video => {
    watcher.observe(video);
    video.addEventListener('click', () =>
      video.paused ? video.play() : video.pause());
  });
  button.addEventListener('click', () => { playing = !playing; refresh(); });
  refresh();
} else {
  button.hidden = true;
}
const svgNode = (name, attributes) => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  return node;
};
const text = value => Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 && value
  ? value.toExponential(2) : +value.toPrecision(4);
document.querySelectorAll('.chart svg').forEach(svg => {
  const series = JSON.parse(svg.dataset.series);
  const hover = svg.querySelector('.hover');
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  svg.parentNode.append(tip);
  const clear = () => { hover.replaceChildren(); tip.hidden = true; };
  svg.addEventListener('pointerleave', clear);
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) * 640 / box.width;
    const nearest = series.map(line => line.points.reduce(
      (a, b) => Math.abs(b[2] - x) < Math.abs(a[2] - x) ? b : a));
    const at = nearest.reduce(
      (a, b) => Math.abs(b[2] - x) < Math.abs(a[2] - x) ? b : a);
    clear();
    hover.append(svgNode('line', {x1: at[2], x2: at[2], y1: 10, y2: 250}));
    const lines = [`step ${at[0]}`];
    nearest.forEach((point, i) => {
      if (Math.abs(point[2] - at[2]) > 8) return;
      hover.append(svgNode('circle', {cx: point[2], cy: point[3], r: 4,
        class: 's' + series[i].colour}));
      lines.push(`${series[i].name}: ${text(point[1])}`);
    });
    tip.replaceChildren(...lines.map(line => {
      const row = document.createElement('div');
      row.textContent = line;
      return row;
    }));
    tip.hidden = false;
    const half = tip.offsetWidth / 2;
    const left = at[2] * box.width / 640;
    tip.style.left = Math.max(half, Math.min(box.width - half, left)) + 'px';
    tip.style.top = svg.offsetTop + svg.clientHeight + 2 + 'px';
  });
});
"""


def page(title: str, sections: Sequence[Section], before: str) -> str:
  """Assembles the document.

  Args:
    title: Title of the page; plain text.
    sections: (anchor, heading as plain text, HTML) from top to bottom.
    before: HTML above the sections.
  """
  links = ''.join(f'<a href="#{anchor}">{html.escape(heading)}</a>'
                  for anchor, heading, _ in sections)
  body = ''.join(
      f'<section id="{anchor}"><h2>{html.escape(heading)}</h2>{content}'
      '</section>' for anchor, heading, content in sections)
  title = html.escape(title)
  return (
      '<!doctype html><html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      f'<title>{title}</title><link rel="icon" href="data:,">'
      f'<style>{_STYLE}</style></head><body>'
      f'<header><div><h1>{title}</h1><nav>{links}</nav>'
      '<button id="play" type="button">Pause clips</button></div></header>'
      f'<main>{before}{body}<footer>Written by walt '
      f'{html.escape(walt_jax.__version__)}.</footer></main>'
      f'<script>{_SCRIPT}</script></body></html>\n')
