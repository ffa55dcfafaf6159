"""`walt plan`: what a config takes, before anything is run."""
import argparse
import json
import pathlib
from typing import Any

from walt_jax import errors
from walt_jax.builders import config as config_lib
from walt_jax.builders import plans

_UNITS = ((1e18, 'E'), (1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M'),
          (1e3, 'k'))


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt plan --help`."""
  if args.json and not pathlib.Path(args.json).absolute().parent.is_dir():
    raise errors.UserError(
        f'--json {args.json}: no such folder; make it first')
  plan = dict(config=args.config) | plans.plan(
      config_lib.load(args.config, args.overrides))
  print(table(plan), flush=True)
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(plan, indent=2) + '\n')


def table(plan: dict[str, Any]) -> str:
  """Formats a plan for people: one line a value, parts indented."""
  lines = []
  for key, value in plan.items():
    if isinstance(value, dict):
      total = sum(value.values()) if key.endswith('_by_part') else None
      lines.append(f'{_title(key)}:')
      lines += [_line(f'  {part}', part_value, key, total)
                for part, part_value in value.items()]
    else:
      lines.append(_line(_title(key), value, key))
  return '\n'.join(lines)


def _title(key: str) -> str:
  return key.replace('_', ' ').replace('flops', 'FLOPs')


def _line(title: str, value: Any, key: str, total: int | None = None) -> str:
  if isinstance(value, list):
    text = ' x '.join(map(str, value))
  elif isinstance(value, float):
    text = f'{value:.4g}'
  elif isinstance(value, int) and value >= 10_000:
    text = f'{_short(value)} ({value:,})'
  else:
    text = str(value)
  if total:
    text += f', {value / total:.1%}'
  return f'{title:<32} {text}'


def _short(value: int) -> str:
  """1234567 -> '1.235 M'."""
  for unit, name in _UNITS:
    if value >= unit:
      return f'{value / unit:.4g} {name}'
  return str(value)
