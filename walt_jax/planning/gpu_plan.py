"""What a config takes on GPUs that are not there: compiled, not estimated."""
from collections.abc import Callable
import dataclasses
from typing import Any

import jax

from walt_jax.builders import absent_runs
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import collectives as collectives_lib
from walt_jax.planning import counting
from walt_jax.planning import gpu_programs
from walt_jax.planning import gpu_topology
from walt_jax.planning import ledger as ledger_lib
from walt_jax.planning import roofline as roofline_lib
from walt_jax.planning import tpu

Report = Callable[[str], None]
_CHARGES_SHOWN = 40
_ASSUMPTIONS = (
    'arithmetic runs at the published bfloat16 peak; element-wise work and '
    'memory traffic are not counted',
    'collectives take the time that the ledger gives them; the estimate '
    'overlaps them with arithmetic, the slow estimate does not',
)


def topology_plan(
    config: schema.Experiment, name: str, figures: dict[str, Any], *,
    with_train_step: bool = True, with_sampler: bool = True,
    report: Report = lambda text: None,
) -> dict[str, Any]:
  """Compiles a config's programs for absent GPUs and charges their kernels.

  Args:
    config: Config of any stage.
    name: Such as 'h100:8'.
    figures: What `summary.plan` found of the config.
    with_train_step: Whether to compile the train step.
    with_sampler: Whether to compile the sampler (of a tokenizer: decoding).
    report: Called with a line before long work.

  Returns:
    Plain JSON values, as `tpu.topology_plan`, and ledgers.

  Raises:
    UserError: If there are no such GPUs, the wheels are missing, or the
      config does not fit the mesh or cannot be traced without a GPU.
  """
  gpu_topology.parse(name)
  form = getattr(config.model, 'attention_form', 'auto')
  if form == 'cudnn':
    raise errors.UserError(
        "config key model.attention_form is 'cudnn', which cannot be traced "
        'without a GPU; plan with model.attention_form=auto')
  gpus = gpu_topology.get_gpus(name)
  section = config.mesh
  mesh = mesh_lib.make_mesh(
      section.data, section.fsdp, section.tensor, devices=gpus.devices)
  run = absent_runs.absent_run(config, mesh)
  axes = ' x '.join(f'{axis} {size}' for axis, size in mesh.shape.items())
  where = f'{gpus.name}, mesh {axes}'
  result = dict(
      topology=gpus.name, chip=gpus.chip.name, num_chips=gpus.num_chips,
      mesh=dict(mesh.shape), remat_policy=tpu.remat_policy(config),
      chip_figures=dataclasses.asdict(gpus.chip))
  if with_train_step:
    report(f'compiling the train step for {where}, batch '
           f'{config.data.batch_size}')
    result |= _train_step(run, gpus, figures)
  if with_sampler:
    report(f'compiling the sampler of {run.num_samples} samples for {where}')
    result['sampler_program'] = _sampler(run, gpus)
  return result


def _train_step(run: absent_runs.AbsentRun, gpus: gpu_topology.Gpus,
                figures: dict[str, Any]) -> dict[str, Any]:
  traced = run.trace_train_step()
  step, charged = gpu_programs.compile_program(traced, gpus)
  model_flops = sum(figures.get(key, 0) for key in (
      'model_flops_per_step', 'self_condition_flops_per_step',
      'discriminator_flops_per_step'))
  return dict(
      **tpu.memory(run, gpus, step), **tpu.communication(run, step),
      compile_seconds=step.seconds, **_predicted(charged, model_flops, gpus),
      roofline=_roofline(traced, charged, model_flops, gpus))


def _sampler(run: absent_runs.AbsentRun, gpus: gpu_topology.Gpus
             ) -> dict[str, Any]:
  """Memory and ledger of drawing one sample a batch shard."""
  traced = run.trace_sampler()
  program, charged = gpu_programs.compile_program(traced, gpus)
  flops = counting.flops_of(traced)
  estimate = _roofline(traced, charged, flops, gpus)
  return dict(
      num_samples=run.num_samples, fits=program.error is None,
      hbm_capacity_bytes=gpus.chip.hbm_bytes,
      hbm_needed_bytes=program.needed_bytes,
      collectives=collectives_lib.totals(program.collectives),
      compile_seconds=program.seconds, flops=flops,
      seconds=estimate['step_seconds'],
      slow_seconds=estimate['slow_step_seconds'],
      **_predicted(charged, flops, gpus))


def _predicted(charged: ledger_lib.Ledger, model_flops: int,
               gpus: gpu_topology.Gpus) -> dict[str, Any]:
  """The ledger, and the time of the program where its total counts."""
  values: dict[str, Any] = dict(ledger=charged.as_json(_CHARGES_SHOWN))
  if not charged.refusals:
    peak = gpus.chip.peak_flops * gpus.num_chips
    values |= dict(predicted_seconds=charged.seconds,
                   predicted_mfu=model_flops / (peak * charged.seconds))
  return values


def _roofline(traced: jax.stages.Traced, charged: ledger_lib.Ledger,
              model_flops: int, gpus: gpu_topology.Gpus) -> dict[str, Any]:
  executed = counting.flops_of(traced)
  peak = gpus.chip.peak_flops * gpus.num_chips
  compute = max(executed, model_flops) / peak
  moving = charged.collective_seconds
  fast, slow = max(compute, moving), compute + moving
  return dict(
      **dataclasses.asdict(roofline_lib.Roofline(
          compute, moving, fast, slow, model_flops / (peak * fast),
          model_flops / (peak * slow))),
      executed_flops_per_step=executed,
      peak_flops_per_chip=gpus.chip.peak_flops,
      link_bytes_per_second=gpus.chip.link_bandwidth,
      assumptions=list(_ASSUMPTIONS))
