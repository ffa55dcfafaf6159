"""One self-contained HTML page of a plan."""
from collections.abc import Callable, Iterable, Sequence
import html
from typing import Any

from walt_jax.report import skeleton

_GIB = 1 << 30
_COLOURS = 8
_KERNELS = 20  # Of each program, the costliest.
_HEADLINES = ('stage', 'parameters', 'model_flops_per_step', 'global_batch',
              'topology', 'num_chips', 'remat_policy', 'fits',
              'largest_global_batch', 'largest_global_batch_estimate',
              'predicted_step_seconds', 'predicted_mfu', 'compile_seconds',
              'compiler_effort', 'compiler_note')


def page(plan: dict[str, Any]) -> str:
  """The page of what `walt plan` found."""
  sections: list[skeleton.Section] = []
  if 'memory_by_part' in plan:
    sections.append(_memory(plan))
  if 'steps' in plan:
    sections.append(_steps(plan['steps']))
  sections += [_program(number, one)
               for number, one in enumerate(plan.get('programs', ()))]
  if plan.get('collectives'):
    sections.append(_communication(plan))
  if 'roofline' in plan:
    sections.append(_roofline(plan['roofline']))
  if 'sampler_program' in plan:
    sections.append(_sampler(plan['sampler_program']))
  if 'sweep' in plan:
    sections.append(_sweep(plan))
  sections.append(('parameters', 'Parameters by part', _table(
      ('part', 'parameters'),
      [(part, _text(count))
       for part, count in plan['parameters_by_part'].items()])))
  headlines = _table((), [(key.replace('_', ' '), _text(plan[key]))
                          for key in _HEADLINES if key in plan])
  return skeleton.page(
      f'Plan of {plan["config"]}', sections, f'<section>{headlines}</section>')


def _steps(steps: dict[str, Any]) -> skeleton.Section:
  """A training step from clips beside one from a latent cache."""
  def seconds(step, key):
    predicted = step[f'predicted_{key}seconds']
    return '-' if predicted is None else f'{predicted:.4g}'

  return 'steps', 'A step from clips or a cache', _table(
      ('from', 'fits', 'GiB', 'seconds, hidden', 'not hidden', 'encoding'),
      [(name, _text(step['fits']), f'{step["hbm_needed_bytes"] / _GIB:.2f}',
        *(seconds(step, key) for key in ('overlapped_', '', 'encoder_')))
       for name, step in steps.items()])


def _program(number: int, program: dict[str, Any]) -> skeleton.Section:
  """Predicted times of a program, and a bar by part of the model."""
  title = f'Program: {program["name"]}'
  if not program['fits']:
    return f'program_{number}', title, '<p>It does not fit.</p>'
  rows = [(f'roofline, collectives {how}',
           f'{1e3 * program[f"roofline_{key}seconds"]:.4g}',
           f'{program[f"roofline_{key}mfu"]:.3f}')
          for how, key in (('hidden', ''), ('not hidden', 'slow_'))]
  ledger = program.get('ledger') or {}
  if program['predicted_seconds'] is not None:
    rows += [(f'ledger, collectives {how}',
              f'{1e3 * program[f"predicted_{key}seconds"]:.4g}',
              f'{program[f"predicted_{key}mfu"]:.3f}')
             for how, key in (('hidden', 'overlapped_'), ('not hidden', ''))]
  notes = ''.join(f'<p>No prediction: {html.escape(reason)}.</p>'
                  for reason in ledger.get('refusals', ()))
  parts = {name: total['seconds']
           for name, total in ledger.get('by_part', {}).items()}
  whole = sum(parts.values())
  content = _table(('estimate', 'ms', 'MFU'), rows) + notes
  if whole:
    content += _stack(parts, lambda seconds: f'{1e3 * seconds:.3f} ms', whole)
    content += _legend(('part', 'ms', 'share'), [
        (name, f'{1e3 * seconds:.3f}', f'{seconds / whole:.1%}')
        for name, seconds in parts.items()])
    content += _table(('costliest kernels', 'calls', 'ms', 'part', 'from'), [
        (one['kind'], str(one['times']),
         f'{1e3 * one["times"] * one["seconds"]:.3f}', one['part'],
         one['op_name']) for one in ledger['charges'][:_KERNELS]])
  return f'program_{number}', title, content


def _stack(parts: dict[str, Any], text: Callable[[Any], str], whole: float
           ) -> str:
  """One bar, cut in proportion; each piece says what it is."""
  return '<div class="stack">' + ''.join(
      f'<span title="{html.escape(name)}: {text(size)}" style="width:'
      f'{100 * size / whole:.2f}%;background:var(--c{number % _COLOURS})">'
      '</span>' for number, (name, size) in enumerate(parts.items())) + '</div>'


def _legend(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table whose rows show the colour of their piece of the bar above."""
  swatch = ('<span style="display:inline-block;width:.8em;height:.8em;'
            'background:var(--c{})"></span> ')
  head = ''.join(f'<th>{html.escape(name)}</th>' for name in header)
  body = ''.join(
      f'<tr><td>{swatch.format(number % _COLOURS)}{html.escape(row[0])}</td>'
      + ''.join(f'<td class="num">{html.escape(cell)}</td>'
                for cell in row[1:]) + '</tr>'
      for number, row in enumerate(rows))
  return ('<div class="card scroll"><table>'
          f'<tr>{head}</tr>{body}</table></div>')


def _memory(plan: dict[str, Any]) -> skeleton.Section:
  capacity, parts = plan['hbm_capacity_bytes'], plan['memory_by_part']
  whole = max(capacity or 0, plan['hbm_needed_bytes'], 1)
  bars = _stack(parts, lambda size: f'{size / _GIB:.2f} GiB', whole)
  verdict = {True: '<b class="yes">It fits.</b>',
             False: '<b class="no">It does not fit.</b>',
             None: html.escape(str(plan.get('memory_note', '')))}[plan['fits']]
  rows = [*parts.items(), ('needed', plan['hbm_needed_bytes']),
          *([('capacity', capacity)] if capacity else [])]
  return ('memory', 'Memory of a chip',
          f'<p>{verdict}</p>{bars}'
          + _table(('part', 'GiB'), [
              (name, f'{size / _GIB:.3f}') for name, size in rows]))


def _communication(plan: dict[str, Any]) -> skeleton.Section:
  largest = plan.get('largest_collectives', ())
  kinds = _table(
      ('kind', 'calls', 'GiB', 'largest tensor, MiB'),
      [(kind, str(one['count']), f'{one["bytes"] / _GIB:.3f}',
        f'{one["largest_bytes"] / 2**20:.2f}')
       for kind, one in plan['collectives'].items()])
  tensors = _table(
      ('largest tensors', 'kind', 'calls', 'from'),
      [(one['shape'], one['kind'], str(one['count']), one['op_name'])
       for one in largest])
  return 'collectives', 'Collectives of a step', kinds + tensors


def _sampler(program: dict[str, Any]) -> skeleton.Section:
  rows = [('samples at once', _text(program['num_samples'])),
          ('fits', _text(program['fits'])),
          ('GiB of a chip', f'{program["hbm_needed_bytes"] / _GIB:.2f}')]
  if program['fits']:
    rows.append(('seconds, by the roofline',
                 f'{program["seconds"]:.3g} - {program["slow_seconds"]:.3g}'))
  return 'sampling', 'Sampling', _table((), rows)


def _roofline(estimate: dict[str, Any]) -> skeleton.Section:
  notes = ''.join(f'<li>{html.escape(text)}</li>'
                  for text in estimate['assumptions'])
  return 'roofline', 'Roofline', _table(('estimate', 'value'), [
      (key.replace('_', ' '), _text(value))
      for key, value in estimate.items() if key != 'assumptions'
  ]) + f'<ul>{notes}</ul>'


def _sweep(plan: dict[str, Any]) -> skeleton.Section:
  best = plan['recommended']
  words = 'Nothing fits.' if best is None else (
      f'Recommended: mesh {_mesh(best["mesh"])}, remat {best["remat_policy"]}.')
  return 'layouts', 'Layouts', f'<p><b>{html.escape(words)}</b></p>' + _table(
      ('data x fsdp x tensor', 'remat', 'estimated GiB', 'estimated s',
       'compiled GiB', 'compiled s', 'MFU'),
      [(_mesh(row['mesh']), row['remat_policy'],
        f'{row["estimated_bytes"] / _GIB:.2f}',
        f'{row["estimated_step_seconds"]:.3g}',
        f'{row["hbm_needed_bytes"] / _GIB:.2f}' if row['compiled'] else '',
        f'{row["step_seconds"]:.3g}' if row.get('step_seconds') else (
            '' if not row['compiled'] else
            'no prediction' if row['fits'] else 'does not fit'),
        f'{row["mfu"]:.2f}' if row.get('mfu') else '')
       for row in plan['sweep']])


def _mesh(mesh: dict[str, int]) -> str:
  return ' x '.join(str(size) for size in mesh.values())


def _table(header: Sequence[Any], rows: Iterable[Sequence[str]]) -> str:
  head = ''.join(f'<th>{html.escape(str(name))}</th>' for name in header)
  body = ''.join(
      '<tr>' + ''.join(
          f'<td{_class(cell)}>{html.escape(cell)}</td>' for cell in row)
      + '</tr>' for row in rows)
  head = f'<tr>{head}</tr>' if head else ''
  return f'<div class="card scroll"><table>{head}{body}</table></div>'


def _class(cell: str) -> str:
  return ' class="num"' if cell[:1].isdigit() else ''


def _text(value: Any) -> str:
  if isinstance(value, bool) or value is None:
    return {True: 'yes', False: 'no', None: 'not known'}[value]
  if isinstance(value, int):
    return f'{value:,}'
  return f'{value:.4g}' if isinstance(value, float) else str(value)
