"""Hashes of every config's programs, to show that moving code changes none.

  python -m benchmarks.lowered_programs --json before.json
  python -m benchmarks.lowered_programs --json after.json --against before.json

Every variant of every config is lowered to StableHLO, without locations and
without weights, for two CPUs on its own mesh: initialisation, train step (an
opening's too), held-out loss, encoder, sampler and decoder. The default variant
is lowered also in the forms for a GPU and for TPUs, without any, and for four
CPUs that cut along `fsdp` and `tensor`. What cannot be built is recorded by its
error. Programs that read the same of their configs are lowered once.

--against prints the programs that differ, and then exits with 1. --only takes
configs and variants: ucf101,quickstart:smoke. --texts DIR keeps the texts.
"""
import argparse
from collections.abc import Iterator
import hashlib
import importlib
import json
import pathlib
import re
from typing import Any
from unittest import mock

import jax

from benchmarks import absent_programs
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.core import progress
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules

CONFIGS = absent_programs.CONFIGS
# By name: platform, what JAX calls it, devices, and a mesh not the config's.
FORMS: dict[str, tuple[str, str, int, dict[str, int]]] = {
    'cpu': ('cpu', 'cpu', 2, {}), 'gpu': ('gpu', 'cuda', 1, {}),
    'tpu': ('tpu', 'tpu', 2, {}),
    'cpu_cut': ('cpu', 'cpu', 4, dict(data=1, fsdp=2, tensor=2))}
_PLACES = re.compile(r'walt_jax|benchmarks|\.py\b|site-packages|\bloc\(|'
                     r'"\d{12,}"')  # An address in memory.


def main() -> None:
  """Lowers, writes JSON, compares."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--json', type=pathlib.Path, required=True)
  parser.add_argument('--against', type=pathlib.Path)
  parser.add_argument('--only', default='')
  parser.add_argument('--texts', type=pathlib.Path)
  args = parser.parse_args()
  before = json.loads(args.against.read_text()) if args.against else None
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', 4)
  cases = list(_cases(args.only))
  if not cases:
    parser.error(f'--only {args.only}: there is no such config or variant')
  found: dict[str, dict[str, Any]] = {}
  known: dict[str, dict[str, Any]] = {}
  if args.texts:
    args.texts.mkdir(parents=True, exist_ok=True)
  for spec, form in progress.track(cases, 'lowering', 'form'):
    found |= {f'{spec} {form} {name}': row for name, row in _rows(
        spec, form, known, args.texts)}
  args.json.write_text(json.dumps(
      dict(jax=jax.__version__, programs=found), indent=1) + '\n')
  wrong = [f'\n  {key}: {row["error"]}' for key, row in found.items()
           if 'error' in row]
  print(f'{len(found)} programs; not built: {len(wrong)}{"".join(wrong)}')
  if before:
    raise SystemExit(_compare(before, found, cases if args.only else None))


def _compare(before: dict, found: dict, cases: list | None) -> int:
  """Prints what differs, among the cases if given; 1 if anything does."""
  if before['jax'] != jax.__version__:
    print(f'JAX was {before["jax"]} and is {jax.__version__}')
  old = {key: row for key, row in before['programs'].items()
         if cases is None or tuple(key.split(' ')[:2]) in cases}
  differ = [key for key in old | found if old.get(key) != found.get(key)]
  for key in differ:
    print(f'differs: {key}: {old.get(key)} -> {found.get(key)}')
  print(f'{len(differ)} of {len(old | found)} programs differ')
  return 1 if differ else 0


def _cases(only: str) -> Iterator[tuple[str, str]]:
  """Every `config:variant` with each of its forms."""
  wanted = set(only.split(','))
  for file in sorted(CONFIGS.glob('*.py')):
    try:
      config_lib.load(f'{file}:?')
    except errors.UserError as e:  # It names the variants that there are.
      variants = re.findall(r'\w+', str(e).rpartition('known:')[2])
    default = config_lib.load(str(file)).to_json()
    first = next(variant for variant in variants if config_lib.load(
        f'{file}:{variant}').to_json() == default)
    for variant in variants:
      spec = f'{file.stem}:{variant}'
      if not only or wanted & {file.stem, spec}:
        for form in FORMS if variant == first else ('cpu',):
          yield spec, form


def _rows(spec: str, form: str, known: dict[str, dict[str, Any]],
          texts: pathlib.Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
  """The hash or error of each program by name; `known` are those of others."""
  config = config_lib.load(f'{CONFIGS}/{spec.replace(":", ".py:")}')
  platform, backend, count, shape = FORMS[form]
  mesh = mesh_lib.make_mesh(
      **(shape or config.mesh), devices=jax.devices()[:count])
  fused = importlib.import_module('jax._src.cudnn.fused_attention_stablehlo')
  jax.clear_caches()
  with rules.activate(mesh), mock.patch.object(  # Nobody asks for a GPU.
      fused, 'check_cudnn_version', lambda: 91_000):
    try:
      traces = absent_programs.traces(
          schema.of(config), platform, mesh)
    except Exception as e:
      yield 'build', _error(e)
      return
    for name, trace in traces.items():
      read = ' '.join((spec.split(':')[0], form, name,
                       absent_programs.read_by(config, name)))
      if read not in known:
        try:
          text = trace().lower(lowering_platforms=(backend,)).as_text(
              debug_info=False)
        except Exception as e:
          yield name, _error(e)
          continue
        if found := _PLACES.search(text):
          raise ValueError(f'{spec} {form} {name} names a place: {found}')
        known[read] = dict(sha256=hashlib.sha256(text.encode()).hexdigest(),
                           length=len(text))
        if texts:
          (texts / f'{spec}.{form}.{name}.txt').write_text(text)
      yield name, known[read]


def _error(e: Exception) -> dict[str, str]:
  return dict(error=f'{type(e).__name__}: {e}'.splitlines()[0])


if __name__ == '__main__':
  main()
