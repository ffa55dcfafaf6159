"""One self-contained HTML page of a plan."""
from collections.abc import Iterable, Sequence
import html
from typing import Any

_GIB = 1 << 30
_STYLE = '''
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; color: #1c2733; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
td, th { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left;
  border-bottom: 1px solid #dde3e9; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: flex; height: 1.6rem; background: #eef1f4; margin: 0.5rem 0; }
.bar span { height: 100%; }
.no { color: #b3261e; } .yes { color: #146c2e; }
'''
_COLOURS = ('#3366aa', '#cc6633', '#669944', '#8866aa', '#aa9933', '#448899',
            '#bb5577')
_HEADLINES = ('stage', 'parameters', 'model_flops_per_step', 'global_batch',
              'topology', 'num_chips', 'remat_policy', 'fits',
              'largest_global_batch', 'largest_global_batch_estimate',
              'compile_seconds', 'compiler_effort', 'compiler_note')


def page(plan: dict[str, Any]) -> str:
  """The page of what `walt plan` found."""
  parts = [f'<h1>{html.escape(str(plan["config"]))}</h1>',
           _table((), [
               (key.replace('_', ' '), _text(plan[key]))
               for key in _HEADLINES if key in plan])]
  if 'memory_by_part' in plan:
    parts += _memory(plan)
  if plan.get('collectives'):
    parts += _communication(plan)
  if 'roofline' in plan:
    parts += _roofline(plan['roofline'])
  if 'sampler_program' in plan:
    parts += _sampler(plan['sampler_program'])
  if 'sweep' in plan:
    parts += _sweep(plan)
  parts += ['<h2>Parameters by part</h2>', _table(
      ('part', 'parameters'),
      [(part, _text(count))
       for part, count in plan['parameters_by_part'].items()])]
  title = html.escape(f'Plan of {plan["config"]}')
  return (f'<!doctype html><html lang="en"><meta charset="utf-8">'
          f'<title>{title}</title><style>{_STYLE}</style>'
          + ''.join(parts) + '</html>\n')


def _memory(plan: dict[str, Any]) -> Iterable[str]:
  capacity, parts = plan['hbm_capacity_bytes'], plan['memory_by_part']
  whole = max(capacity or 0, plan['hbm_needed_bytes'], 1)
  bars = ''.join(
      f'<span title="{html.escape(name)}: {size / _GIB:.2f} GiB" style="width:'
      f'{100 * size / whole:.2f}%;background:{colour}"></span>'
      for (name, size), colour in zip(parts.items(), _COLOURS, strict=False))
  verdict = {True: '<b class="yes">It fits.</b>',
             False: '<b class="no">It does not fit.</b>',
             None: html.escape(str(plan.get('memory_note', '')))}[plan['fits']]
  return ['<h2>Memory of a chip</h2>', f'<p>{verdict}</p>',
          f'<div class="bar">{bars}</div>', _table(
              ('part', 'GiB'),
              [(name, f'{size / _GIB:.3f}') for name, size in [
                  *parts.items(), ('needed', plan['hbm_needed_bytes']),
                  *([('capacity', capacity)] if capacity else [])]])]


def _communication(plan: dict[str, Any]) -> Iterable[str]:
  largest = plan.get('largest_collectives', ())
  return ['<h2>Collectives of a step</h2>', _table(
      ('kind', 'calls', 'GiB', 'largest tensor, MiB'),
      [(kind, str(one['count']), f'{one["bytes"] / _GIB:.3f}',
        f'{one["largest_bytes"] / 2**20:.2f}')
       for kind, one in plan['collectives'].items()]), _table(
           ('largest tensors', 'kind', 'calls', 'from'),
           [(one['shape'], one['kind'], str(one['count']), one['op_name'])
            for one in largest])]


def _sampler(program: dict[str, Any]) -> Iterable[str]:
  rows = [('samples at once', _text(program['num_samples'])),
          ('fits', _text(program['fits'])),
          ('GiB of a chip', f'{program["hbm_needed_bytes"] / _GIB:.2f}')]
  if program['fits']:
    rows.append(('seconds, by the roofline',
                 f'{program["seconds"]:.3g} - {program["slow_seconds"]:.3g}'))
  return ['<h2>Sampling</h2>', _table((), rows)]


def _roofline(estimate: dict[str, Any]) -> Iterable[str]:
  notes = ''.join(f'<li>{html.escape(text)}</li>'
                  for text in estimate['assumptions'])
  return ['<h2>Roofline</h2>', _table(('estimate', 'value'), [
      (key.replace('_', ' '), _text(value))
      for key, value in estimate.items() if key != 'assumptions']),
          f'<ul>{notes}</ul>']


def _sweep(plan: dict[str, Any]) -> Iterable[str]:
  best = plan['recommended']
  words = 'Nothing fits.' if best is None else (
      f'Recommended: mesh {_mesh(best["mesh"])}, remat {best["remat_policy"]}.')
  return ['<h2>Layouts</h2>', f'<p><b>{html.escape(words)}</b></p>', _table(
      ('data x fsdp x tensor', 'remat', 'estimated GiB', 'estimated s',
       'compiled GiB', 'compiled s', 'MFU'),
      [(_mesh(row['mesh']), row['remat_policy'],
        f'{row["estimated_bytes"] / _GIB:.2f}',
        f'{row["estimated_step_seconds"]:.3g}',
        f'{row["hbm_needed_bytes"] / _GIB:.2f}' if row['compiled'] else '',
        f'{row["step_seconds"]:.3g}' if row.get('fits') else (
            'does not fit' if row['compiled'] else ''),
        f'{row["mfu"]:.2f}' if row.get('fits') else '')
       for row in plan['sweep']])]


def _mesh(mesh: dict[str, int]) -> str:
  return ' x '.join(str(size) for size in mesh.values())


def _table(header: Sequence[Any], rows: Iterable[Sequence[str]]) -> str:
  head = ''.join(f'<th>{html.escape(str(name))}</th>' for name in header)
  body = ''.join(
      '<tr>' + ''.join(
          f'<td{_class(cell)}>{html.escape(cell)}</td>' for cell in row)
      + '</tr>' for row in rows)
  return f'<table>{f"<tr>{head}</tr>" if head else ""}{body}</table>'


def _class(cell: str) -> str:
  return ' class="number"' if cell[:1].isdigit() else ''


def _text(value: Any) -> str:
  if isinstance(value, bool) or value is None:
    return {True: 'yes', False: 'no', None: 'not known'}[value]
  if isinstance(value, int):
    return f'{value:,}'
  return f'{value:.4g}' if isinstance(value, float) else str(value)
