"""The paper's configs on absent chips: what `walt plan` says of a train step.

  python -m benchmarks.plans [--plans FOLDER] [CASE ..]

A full-size case takes minutes of a core and some GiB. With --plans, a case
whose plan stands in the folder as CASE.json (`walt plan --json`) is read, and
one that does not is compiled and written there. Cases that are not named keep
their rows.
"""
import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import harness
from walt_jax.core import files
from walt_jax.planning import ledger


@dataclasses.dataclass(frozen=True)
class Case:
  """A train step to plan.

  Attributes:
    config: As `--config` takes it.
    topology: As `--topology` takes it.
    wanted_ms: Wanted time of a step, by the ledger, no collective hidden.
    overrides: Config keys.
    encoders: Whether encoders are planned, too: whole steps, from clips and
      from a latent cache. They take minutes of a core more.
  """
  config: str
  topology: str
  wanted_ms: int | None
  overrides: tuple[str, ...] = ()
  encoders: bool = False


_NO_FIRST_PASS = 'diffusion.self_condition_probability=0'
CASES = {
    'ucf101_l_h100': Case('configs/ucf101.py:l', 'h100:1', 190,
                          ('data.batch_size=32', _NO_FIRST_PASS),
                          encoders=True),
    'ucf101_l_h100_self_conditioning': Case(
        'configs/ucf101.py:l', 'h100:1', 255,
        ('data.batch_size=32', 'diffusion.self_condition_probability=0.9')),
    'ucf101_l': Case('configs/ucf101.py:l', 'v5p:2x2x1', 400,
                     ('data.batch_size=128', _NO_FIRST_PASS)),
    'ucf101_xl': Case('configs/ucf101.py', 'v5e:4x4', 850, encoders=True),
    't2v_base': Case('configs/t2v_base.py', 'v5p:4x4x4', 1150),
    't2v_base_slices': Case('configs/t2v_base.py', '2*v5p:4x4x4', None,
                            encoders=True),
    't2v_sr1': Case('configs/t2v_sr1.py', 'v5p:4x4x4', 1100),
    't2v_sr2': Case('configs/t2v_sr2.py', 'v6e:8x8', 450, encoders=True),
}
# What fused attention is to make small.
_ATTENTION = (ledger.ATTENTION_CORE, ledger.WINDOWS)


def row(case: Case, plan: dict[str, Any]) -> harness.Row:
  """What the documents need of a plan."""
  step = plan['programs'][0]
  found = dict(
      dataclasses.asdict(case), commit=plan['commit'], mesh=plan['mesh'],
      batch=plan['global_batch'], remat=plan['remat_policy'],
      attention=plan['attention_forms'], fits=step['fits'],
      needed_bytes=step['hbm_needed_bytes'],
      capacity_bytes=step['hbm_capacity_bytes'],
      compile_seconds=step['compile_seconds'],
      compiler_options=plan['compiler_options'], **encoded(plan))
  if not step['fits']:
    return found
  charged = step['ledger']
  parts = {name: total['seconds']
           for name, total in charged['compute_by_part'].items()}
  return found | dict(
      refusals=charged['refusals'],
      seconds=charged['seconds'],
      compute_seconds=charged['compute_seconds'],
      collective_seconds=charged['collective_seconds'],
      hidden_collective_seconds=charged['hidden_collective_seconds'],
      mfu=step['predicted_mfu'], roofline_seconds=step['roofline_seconds'],
      roofline_slow_seconds=step['roofline_slow_seconds'],
      weight_rings=step['weight_rings'], seconds_by_part=parts,
      attention_share=sum(parts.get(name, 0.) for name in _ATTENTION) /
      max(sum(parts.values()), 1e-12))


def encoded(plan: dict[str, Any]) -> harness.Row:
  """Of a plan with encoders: whole steps, from clips and from a cache."""
  if 'steps' not in plan:
    return {}
  return dict(steps=plan['steps'], train_from=plan.get('train_from'),
              cache_bytes_per_clip=plan['encoder']['cache_bytes_per_clip'])


def arguments(case: Case, path: pathlib.Path) -> list[str]:
  """What `walt` is given for a case, to write its plan to `path`."""
  return ['plan', '--config', case.config, '--topology', case.topology,
          '--no_sampler', '--json', str(path),
          *([] if case.encoders else ['--no_encoder']),
          *(f'--config.{override}' for override in case.overrides)]


def _plan(case: Case, path: pathlib.Path) -> dict[str, Any]:
  if not path.exists():
    subprocess.run(
        [sys.executable, '-m', 'walt_jax', *arguments(case, path)], check=True)
    files.write_json(path, json.loads(path.read_text()) | dict(
        commit=harness.commit()))
  return json.loads(path.read_text())


def main() -> None:
  """Makes the plans and writes the rows."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('cases', nargs='*', metavar='CASE',
                      help=f'of {", ".join(CASES)}; all by default')
  parser.add_argument('--plans', metavar='FOLDER')
  args = parser.parse_args()
  for name in args.cases:
    if name not in CASES:
      parser.error(f'no case {name!r}; choose of {", ".join(CASES)}')
  result = harness.RESULTS / 'plans.json'
  rows = json.loads(result.read_text())['rows'] if result.exists() else {}
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(args.plans or scratch)
    for name in args.cases or CASES:
      case = CASES[name]
      rows[name] = row(case, _plan(case, folder / f'{name}.json'))
      harness.write('plans', {key: rows[key] for key in CASES if key in rows})


if __name__ == '__main__':
  main()
