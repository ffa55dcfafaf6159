"""Meshes and remat policies of a config on one slice, compared."""
from collections.abc import Callable, Iterator
import dataclasses
from typing import Any

from walt_jax.builders import absent_runs
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.models import remat
from walt_jax.parallel import cuts
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import gpu
from walt_jax.planning import places
from walt_jax.planning import topology
from walt_jax.planning import topology_plan

Report = Callable[[str], None]
_TENSOR_SIZES = (1, 2, 4, 8)
# Between hosts to save memory only when nothing else fits.
_LAST_POLICIES = ('offload',)


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One way to lay a config out.

  Attributes:
    mesh: Sizes of data, fsdp and tensor.
    remat_policy: See `topology_plans.remat_policy`.
    estimated_bytes: Memory of a chip, from the trace.
    estimated_seconds: Time of a step: arithmetic, and what the layout sends.
  """
  mesh: tuple[int, int, int]
  remat_policy: str
  estimated_bytes: int
  estimated_seconds: float


def sweep(config: schema.Experiment, name: str, figures: dict[str, Any],
          *, num_compiled: int = 4, report: Report = lambda text: None
          ) -> dict[str, Any]:
  """Tabulates layouts of a config and recommends one.

  Every layout is estimated from the trace of the step; the most promising are
  compiled, and the fastest that fits is recommended.

  Args:
    config: Config whose mesh and remat policy are varied; its batch stays.
    name: Name of the slice.
    figures: What `plans.plan` found of the config.
    num_compiled: How many layouts to compile, at most.
    report: Called with a line before long work.

  Returns:
    `sweep`, one entry a layout, and `recommended`, the best one's `mesh` and
    `remat_policy`, or None where nothing fits.

  Raises:
    UserError: If there is no such slice, or no layout takes the batch.
  """
  place = places.slice_of(name, 'sweep')
  report('estimating layouts')
  found = sorted(candidates(config, place, figures),
                 key=lambda one: _order(one, place))
  if not found:
    raise errors.UserError(
        f'config key data.batch_size is {config.data.batch_size}: no mesh of '
        f'{len(place.devices)} devices divides it; change it')
  rows: list[dict[str, Any]] = []
  best: dict[str, Any] | None = None
  for index, one in enumerate(found):
    row: dict[str, Any] = dict(
        mesh=dict(zip(mesh_lib.AXES, one.mesh, strict=True)),
        remat_policy=one.remat_policy,
        estimated_bytes=one.estimated_bytes,
        estimated_step_seconds=one.estimated_seconds, compiled=False)
    if index < num_compiled:
      report(f'layout {index + 1} of {min(num_compiled, len(found))}')
      plan = topology_plan.topology_plan(
          laid_out(config, one.mesh, one.remat_policy), name, figures,
          with_sampler=False, report=report)
      row |= dict(compiled=True, fits=plan['fits'],
                  hbm_needed_bytes=plan['hbm_needed_bytes'],
                  compile_seconds=plan['compile_seconds'])
      if plan['fits']:
        # A layout whose ledger is refused is not compared with the others.
        row |= dict(step_seconds=plan['predicted_step_seconds'],
                    mfu=plan['predicted_mfu'],
                    collectives=plan['collectives'])
        if row['step_seconds'] is not None and (
            best is None or row['step_seconds'] < best['step_seconds']):
          best = row
    rows.append(row)
  recommended = best and {
      key: best[key] for key in ('mesh', 'remat_policy', 'hbm_needed_bytes',
                                 'step_seconds', 'mfu')}
  return dict(topology=place.name, num_chips=place.num_chips,
              hbm_capacity_bytes=place.chip.hbm_bytes, sweep=rows,
              recommended=recommended)


def _order(one: Candidate, place: topology.Slice) -> tuple:
  """What seems to fit first, then the fastest, then the smallest."""
  return (one.estimated_bytes > place.chip.hbm_bytes,
          one.remat_policy in _LAST_POLICIES, one.estimated_seconds,
          one.estimated_bytes)


def candidates(config: schema.Experiment, place: topology.Slice,
               figures: dict[str, Any]) -> Iterator[Candidate]:
  """All layouts that divide the batch and the heads, with estimates."""
  count = len(place.devices)
  shapes = list(_mesh_shapes(config, count))
  if not shapes:
    return
  parameters = figures['parameters'] + figures.get(
      'discriminator_parameters', 0)
  for policy in _policies(config):
    # Activations grow with a device's rows: one trace tells how fast.
    first = shapes[0]
    traced = absent_runs.absent_run(
        laid_out(config, first, policy),
        gpu.abstract_mesh(laid_out(config, first, policy), count),
        platform='tpu')
    parts = gpu.estimate_parts(traced)
    rows = config.data.batch_size // (first[0] * first[1])
    executed = topology_plan.executed_flops(traced)
    for shape in shapes:
      run = absent_runs.absent_run(
          laid_out(config, shape, policy),
          gpu.abstract_mesh(laid_out(config, shape, policy), count),
          platform='tpu')
      if shape[1] > 1 and not cuts.cut(
          run.state, run.mesh.shape, run.stage.rules).is_enough:
        continue
      held = gpu.held_parts(run)
      activations = parts['activations'] * (
          config.data.batch_size // (shape[0] * shape[1])) / rows / shape[2]
      needed = sum(held.values()) + held['parameters'] + activations
      yield Candidate(
          shape, policy, int(place.chip.num_devices * needed),
          executed / (place.num_chips * place.chip.peak_flops) +
          _communication_seconds(config, place, shape, parameters, figures))


def _communication_seconds(config: schema.Experiment, place, shape,
                           parameters: int, figures) -> float:
  """What a layout must send, at the rate of one torus axis.

  Weights in bfloat16: gathered for the forward and the backward pass, their
  gradients reduced; with `tensor`, activations are summed after every pair of
  products, forward and backward.
  """
  data, fsdp, tensor = shape
  rate = 2 * place.chip.link_bandwidth
  cut = lambda n: (n - 1) / n
  weights = 2 * parameters / tensor
  seconds = 3 * weights * cut(fsdp) / rate + (
      2 * 2 * weights / fsdp * cut(data) / rate)
  if tensor > 1 and isinstance(config, schema.DenoiserExperiment):
    tokens = figures['tokens_per_step'] / (data * fsdp)
    sums = 2 * config.model.depth * (2 + bool(config.text.name))
    seconds += sums * 2 * cut(tensor) * (
        2 * tokens * config.model.width) / rate
  return seconds


def _mesh_shapes(config: schema.Experiment, count: int
                 ) -> Iterator[tuple[int, int, int]]:
  data = config.data
  heads = (config.model.num_heads
           if isinstance(config, schema.DenoiserExperiment) else 1)
  for tensor in _TENSOR_SIZES:
    shards = count // tensor
    if (count % tensor or heads % tensor or data.batch_size % shards
        or data.image_rows % shards):
      continue
    fsdp = 1
    while fsdp <= shards:
      if shards % fsdp == 0:
        yield shards // fsdp, fsdp, tensor
      fsdp *= 2


def _policies(config: schema.Experiment) -> list[str]:
  if isinstance(config, schema.DenoiserExperiment):
    return list(remat.POLICIES)
  return ['none', 'full']


def laid_out(config: schema.Experiment, mesh: tuple[int, int, int],
             policy: str) -> schema.Experiment:
  """The config with another mesh and remat policy."""
  changed: dict[str, Any] = dict(remat_policy=policy)
  if isinstance(config, schema.TokenizerExperiment):
    changed = dict(remat=policy == 'full')
  return dataclasses.replace(
      config, mesh=schema.Mesh(*mesh),
      model=dataclasses.replace(config.model, **changed))
