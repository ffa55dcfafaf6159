"""`walt plan`: what a config takes, before anything is run."""
import argparse
import logging
from typing import Any

import jax

from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.commands.flags import outputs
from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.planning import cascade
from walt_jax.planning import drawing
from walt_jax.planning import encoding
from walt_jax.planning import gpu
from walt_jax.planning import gpu_topology
from walt_jax.planning import page
from walt_jax.planning import places
from walt_jax.planning import programs
from walt_jax.planning import summary
from walt_jax.planning import sweeps
from walt_jax.planning import topology_plan

_UNITS = ((1e18, 'E'), (1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M'),
          (1e3, 'k'))
_GIB = 1 << 30
# Parts of the JSON that the table shows in its own way, or not at all.
_LISTS = ('largest_collectives', 'largest_others', 'sweep')
_NOT_SHOWN = ('programs', 'prediction_notes', 'steps', 'drawing')


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt plan --help`."""
  _check(args)
  # Compiling for absent devices opens none.
  jax.config.update('jax_platforms', 'cpu')
  # Nor does it help to hear of each plugin that its device is absent.
  logging.getLogger('jax_plugins').setLevel(logging.ERROR)
  plan = _cascade(args) if args.then else _single(args)
  print(table(plan), flush=True)
  if plan.get('programs'):
    print('\n'.join(programs.table(plan['programs'], args.ledger)), flush=True)
    if 'steps' in plan:
      print('\n'.join(encoding.table(plan['steps'])), flush=True)
    if 'drawing' in plan:
      print('\n'.join(drawing.table(plan['drawing'])), flush=True)
    print('\n'.join(f'  ({note})' for note in plan['prediction_notes']),
          flush=True)
  made_by = outputs.made_by(args)
  if args.json:
    files.write_json(args.json, plan | made_by.entry())
  if args.html:
    files.write_text(args.html, made_by.in_page(page.page(plan)))


def _single(args: argparse.Namespace) -> dict[str, Any]:
  """The plan of one config."""
  config = schema.of(config_lib.load(args.config, args.overrides))
  plan = dict(config=args.config) | summary.plan(config)
  if not args.no_encoder:
    plan |= encoding.costs(config, topology_plan.model_flops(plan))
  if args.topology:
    plan |= _on_topology(args, config, plan)
  return plan


def _cascade(args: argparse.Namespace) -> dict[str, Any]:
  """The plan of drawing clips by several stages."""
  names = [args.config, *args.then]
  configs = []
  for name in names:
    config = schema.of(config_lib.load(name, args.overrides))
    if not isinstance(config, schema.DenoiserExperiment):
      raise errors.UserError(
          f'{name} is of a tokenizer; --then takes the stages of a cascade')
    configs.append(config)
  jax.config.update('jax_enable_compilation_cache', False)
  return dict(config=names) | cascade.cascade_plan(
      names, configs, args.topology,
      args.num_samples or absent_runs.NUM_SAMPLES, args.mesh, _report)


def _report(text: str) -> None:
  print(f'plan: {text}', flush=True)


def _check(args: argparse.Namespace) -> None:
  """The plainest mistakes have the quickest answers."""
  if args.no_train_step and (
      args.no_sampler or args.sweep or args.largest_batch):
    raise errors.UserError(
        '--no_train_step leaves the sampler alone to compile: give it without '
        '--no_sampler, --sweep and --largest_batch')
  _check_cascade(args)
  if args.topology is None:
    for flag in ('sweep', 'largest_batch', 'no_train_step', 'ledger', 'then'):
      if getattr(args, flag):
        raise errors.UserError(
            f'--{flag} needs a --topology, such as v5p:4x4x4')
    return
  if args.topology.startswith(gpu.PREFIX):
    gpu.num_gpus(args.topology)
    if args.sweep or args.largest_batch or args.no_train_step or args.ledger:
      raise errors.UserError(
          '--sweep, --largest_batch, --no_train_step and --ledger compile, '
          'which takes a --topology with a chip, such as v5p:4x4x4 or h100:8; '
          f'for {args.topology} the train step is estimated')
    return
  places.parse(args.topology)
  if args.sweep and gpu_topology.is_gpus(args.topology):
    raise errors.UserError(
        '--sweep takes a TPU --topology, such as v5p:4x4x4; for '
        f'{args.topology} plan single layouts with --config.mesh')


def _check_cascade(args: argparse.Namespace) -> None:
  if args.mesh and not args.then:
    raise errors.UserError(
        '--mesh goes with --then; plan one config with --config.mesh.data=N, '
        '.. of its own')
  if not args.then:
    return
  for flag in ('sweep', 'largest_batch', 'no_sampler', 'no_encoder', 'html'):
    if getattr(args, flag):
      raise errors.UserError(
          f'--then plans drawing clips alone; leave out --{flag}')
  if (args.topology or '').startswith(gpu.PREFIX):
    raise errors.UserError(
        '--then compiles, which takes a --topology with a chip, such as '
        f'v5e:2x2 or h100:8; for {args.topology} the train step is estimated')


def _on_topology(args, config, figures: dict[str, Any]) -> dict[str, Any]:
  if args.topology.startswith(gpu.PREFIX):
    return gpu.gpu_plan(config, args.topology)
  # Programs for absent devices can be written to the cache, never read back.
  jax.config.update('jax_enable_compilation_cache', False)
  if args.sweep:
    return sweeps.sweep(config, args.topology, figures,
                        num_compiled=args.num_compiled, report=_report)
  found = topology_plan.topology_plan(
      config, args.topology, figures,
      with_train_step=not args.no_train_step,
      with_encoder=not args.no_encoder,
      with_sampler=not args.no_sampler,
      num_samples=args.num_samples or absent_runs.NUM_SAMPLES, report=_report)
  if args.largest_batch and found['fits']:
    found['largest_global_batch'] = topology_plan.largest_global_batch(
        config, args.topology, found['largest_global_batch_estimate'],
        report=_report)
  return found


def table(plan: dict[str, Any]) -> str:
  """Formats a plan for people: one line a value, parts indented."""
  lines = []
  for key, value in plan.items():
    if key in _NOT_SHOWN:
      continue
    if key == 'collectives':
      lines += _collectives(value)
    elif key in _LISTS:
      lines += _rows(key, value)
    elif isinstance(value, dict):
      total = sum(value.values()) if key.endswith('_by_part') else None
      lines.append(f'{_title(key)}:')
      lines += [_line(f'  {_title(part)}', part_value,
                      key if key.endswith('_by_part') else part, total)
                for part, part_value in value.items()
                if not isinstance(part_value, dict)]
    else:
      lines.append(_line(_title(key), value, key))
  return '\n'.join(lines)


def _collectives(kinds: dict[str, dict[str, int]]) -> list[str]:
  return ['collectives of a step:'] + [
      f'  {kind:<30} {one["count"]} calls, {one["bytes"] / _GIB:.3g} GiB, '
      f'largest tensor {one["largest_bytes"] / 2**20:.3g} MiB'
      for kind, one in kinds.items()]


def _rows(key: str, rows: list[dict[str, Any]]) -> list[str]:
  lines = [f'{_title(key)}:'] if rows else []
  for row in rows:
    if key == 'sweep':
      mesh = ' x '.join(str(size) for size in row['mesh'].values())
      text = (f'{mesh:<14} {row["remat_policy"]:<8} estimated '
              f'{row["estimated_bytes"] / _GIB:7.2f} GiB '
              f'{row["estimated_step_seconds"]:.3g} s')
      if row['compiled']:
        text += f', compiled {row["hbm_needed_bytes"] / _GIB:.2f} GiB, '
        if not row['fits']:
          text += 'does not fit'
        elif row['step_seconds'] is None:
          text += 'no prediction'
        else:
          text += f'{row["step_seconds"]:.3g} s, MFU {row["mfu"]:.2f}'
    else:
      text = (f'{row["kind"]:<18} {row["shape"]:<26} x {row["count"]:<5} '
              f'{row["op_name"]}')
    lines.append('  ' + text)
  return lines


def _title(key: str) -> str:
  return key.replace('_', ' ').replace('flops', 'FLOPs')


def _line(title: str, value: Any, key: str, total: int | None = None) -> str:
  if isinstance(value, list):
    text = ' x '.join(map(str, value))
  elif isinstance(value, float):
    text = f'{value:.4g}'
  elif isinstance(value, int) and key.endswith('bytes_per_clip'):
    text = f'{value / 1e3:.1f} kB'
  elif isinstance(value, int) and ('bytes' in key or 'memory' in key):
    text = f'{value / _GIB:.3f} GiB'
  elif isinstance(value, int) and value >= 10_000:
    text = f'{_short(value)} ({value:,})'
  else:
    text = str(value)
  if total and isinstance(value, int):
    text += f', {value / total:.1%}'
  return f'{title:<32} {text}'


def _short(value: int) -> str:
  """1234567 -> '1.235 M'."""
  for unit, name in _UNITS:
    if value >= unit:
      return f'{value / unit:.4g} {name}'
  return str(value)
