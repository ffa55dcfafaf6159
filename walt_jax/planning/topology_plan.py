"""What a config takes on TPUs or GPUs that are not there."""
from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax

from walt_jax.builders import absent_runs
from walt_jax.builders import attention_forms
from walt_jax.builders import meshes
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.parallel import compiler_options
from walt_jax.parallel import cuts
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import aot
from walt_jax.planning import collectives as collectives_lib
from walt_jax.planning import counting
from walt_jax.planning import drawing
from walt_jax.planning import encoding
from walt_jax.planning import places
from walt_jax.planning import programs
from walt_jax.planning import roofline as roofline_lib

Report = Callable[[str], None]
_LARGEST_SHOWN = 12
_MAX_TRIES = 10  # Compilations of the search for the largest batch.
_LOW_EFFORT_NOTE = (
    'compiled at the lowest effort for speed; where the default was compiled '
    'too, collectives were equal and memory within 2% '
    '(docs/measurements/plans.md)')
_LOW_ENCODER_NOTE = (
    'encoders are compiled at the lowest effort for speed: their time is some '
    'four times that at the default (docs/measurements/plans.md)')


def topology_plan(
    config: schema.Experiment, name: str, figures: dict[str, Any], *,
    with_train_step: bool = True, with_encoder: bool = True,
    with_sampler: bool = True,
    num_samples: int = absent_runs.NUM_SAMPLES,
    report: Report = lambda text: None,
) -> dict[str, Any]:
  """Compiles a config's programs for an absent slice.

  Args:
    config: Config of any stage.
    name: Such as 'v5p:4x4x4'.
    figures: What `plans.plan` found of the config.
    with_train_step: Whether to compile the train step.
    with_encoder: Whether to compile a denoiser's encoders, too, and to judge
      whole steps, from clips and from a latent cache.
    with_sampler: Whether to compile the sampler (of a tokenizer: decoding),
      and with `with_encoder` what else `walt sample` runs.
    num_samples: Clips that are drawn at once.
    report: Called with a line before long work.

  Returns:
    Plain JSON values, named in the design's section 3.

  Raises:
    UserError: If there is no such slice, or the config does not fit the mesh.
  """
  if isinstance(config, schema.DenoiserExperiment) and (
      config.model.attention_form == 'cudnn'):
    raise errors.UserError(
        "config key model.attention_form is 'cudnn', which cannot be traced "
        'without a GPU; plan with model.attention_form=auto')
  place = places.get(name)
  if with_train_step:
    meshes.check_training(config)
  mesh = meshes.mesh_of(config, place.devices, place.num_slices)
  run = absent_runs.absent_run(
      config, mesh, num_samples=num_samples, slices=place.num_slices)
  where = f'{place.name}, mesh {_mesh_name(mesh)}'
  result: dict[str, Any] = dict(
      topology=place.name, chip=place.chip.name, num_chips=place.num_chips,
      mesh=dict(mesh.shape), remat_policy=remat_policy(config),
      compiler_options=compiler_options.of(mesh_lib.platform(mesh)),
      prediction_notes=list(place.notes))
  cut = cuts.cut(run.state, mesh.shape, run.stage.rules)
  result |= dict(state_cut_share=cut.share, state_bytes=cut.total_bytes,
                 state_bytes_per_device=cut.device_bytes)
  if isinstance(config, schema.DenoiserExperiment):
    result['attention_forms'] = attention_forms.attention_forms(
        config, mesh_lib.platform(mesh))
  effort = compiler_effort(config)
  result['compiler_effort'] = effort
  if effort != aot.DEFAULT_EFFORT and not place.is_gpus:
    result['compiler_note'] = _LOW_EFFORT_NOTE
  result['programs'] = []
  if with_train_step:
    report(f'compiling the train step for {where}, batch '
           f'{config.data.batch_size}')
    step = programs.compiled(
        programs.Program('train step', run.trace_train_step(),
                         model_flops(figures)), place, effort)
    result['programs'].append(step.as_json())
    result |= _train_step(run, step, config.data.batch_size)
    if with_encoder and isinstance(config, schema.DenoiserExperiment):
      report(f'compiling the encoders for {where}')
      add_encoders(result, config, run, step)
  if with_sampler:
    report(f'compiling the sampler of {run.num_samples} samples for {where}')
    sampler = programs.compiled(
        programs.Program(_sampler_name(config), run.trace_sampler()), place,
        effort)
    result['programs'].append(sampler.as_json())
    result['sampler_program'] = _sampler(run, sampler)
    if with_encoder and isinstance(config, schema.DenoiserExperiment):
      report(f'compiling text encoder and decoder for {where}')
      found = drawing.drawing(
          [drawing.Stage(config, run, sampler)], place)
      result['programs'] += found['programs']
      result['drawing'] = found['drawing']
  return result


def add_encoders(result: dict[str, Any], config: schema.DenoiserExperiment,
                 run: absent_runs.AbsentRun, train_step: programs.Found
                 ) -> None:
  """Adds encoders to a plan of a train step; the larger step decides.

  A train step that does not fit is judged already.
  """
  if not train_step.fits:
    return
  effort = encoder_effort(config)
  if effort != aot.DEFAULT_EFFORT and not train_step.place.is_gpus:
    result['prediction_notes'].append(_LOW_ENCODER_NOTE)
  compiler = encoding.Steps(config, run, train_step, effort)
  steps = {}
  for name in ((encoding.CACHE,) if encoding.reads_cache(config)
               else (encoding.CLIPS, encoding.CACHE)):
    cached = name == encoding.CACHE
    encoder = compiler.encoder(cached=cached)
    result['programs'].append(encoder.as_json())
    steps[name] = compiler.step(encoder, cached=cached)
  devices = train_step.place.chip.num_devices
  result |= encoding.as_json(config, steps, devices)
  largest = max(steps.values(), key=lambda step: step.needed_bytes)
  needed = devices * largest.needed_bytes
  result |= dict(
      fits=all(step.fits for step in steps.values()),
      hbm_needed_bytes=needed,
      hbm_headroom_bytes=result['hbm_capacity_bytes'] - needed)
  parts = {name: devices * size for name, size in largest.parts.items()}
  # What lasts while the train step runs, and what encoding takes beyond it.
  parts['encoding'] = max(parts['encoding'], 0)
  result['memory_by_part'] = result['memory_by_part'] | parts


def _sampler_name(config: schema.Experiment) -> str:
  return 'decoder' if config.stage == 'tokenizer' else 'sampler'


def _train_step(run, found: programs.Found, batch: int) -> dict[str, Any]:
  step = found.compiled
  result = dict(**_memory(run, found), **_communication(run, step),
                compile_seconds=step.seconds)
  if step.error is None:
    result['roofline'] = _roofline(run, found)
    result['largest_global_batch_estimate'] = _largest_estimate(
        run, found, batch)
    result |= dict(
        predicted_step_seconds=found.seconds,
        predicted_mfu=found.mfu(found.seconds),
        predicted_overlapped_step_seconds=found.overlapped_seconds,
        predicted_overlapped_mfu=found.mfu(found.overlapped_seconds))
  return result


def model_flops(figures: dict[str, Any]) -> int:
  """FLOPs of a train step without encoders, of what `summary.plan` found."""
  return sum(figures.get(name, 0) for name in (
      'model_flops_per_step', 'self_condition_flops_per_step',
      'discriminator_flops_per_step'))


def compiler_effort(config: schema.Experiment) -> float:
  """What XLA may spend on speed, see `aot`.

  XLA emits each different fusion of a convolution for itself, and a
  tokenizer's are hundreds: at the default effort that takes a core longer
  than anyone waits. A denoiser's layers are one loop.
  """
  return (aot.LOWEST_EFFORT if config.stage == 'tokenizer'
          else aot.DEFAULT_EFFORT)


def encoder_effort(config: schema.DenoiserExperiment) -> float:
  """The same of a denoiser's encoders.

  Those of large clips would take a core 20 minutes at the default effort.
  """
  return (aot.LOWEST_EFFORT if config.stage == 'super_resolution'
          else aot.DEFAULT_EFFORT)


def remat_policy(config: schema.Experiment) -> str:
  """The name of what layers keep for the backward pass."""
  if isinstance(config, schema.DenoiserExperiment):
    return config.model.remat_policy
  assert isinstance(config, schema.TokenizerExperiment)
  return ('full' if isinstance(config.model, schema.Autoencoder)
          and config.model.remat else 'none')


def largest_global_batch(
    config: schema.Experiment, name: str, first_guess: int, *,
    report: Report = lambda text: None) -> int:
  """The largest batch that compiles and fits, a multiple of the shards.

  Bisects, beginning at a guess, to within a sixteenth; each try is a
  compilation. What it returns was seen to fit.

  Args:
    config: Config, as for `topology_plan`, whose batch is known to fit.
    name: Name of the slice.
    first_guess: Where to begin, see `largest_global_batch_estimate`.
    report: Called with a line before each compilation.
  """
  place = places.get(name)
  mesh = meshes.mesh_of(config, place.devices, place.num_slices)
  unit = _batch_unit(config, mesh)
  fits, too_large = config.data.batch_size // unit, None
  trial = max(first_guess // unit, fits + 1)
  for _ in range(_MAX_TRIES):
    changed = with_batch(config, trial * unit)
    report(f'trying a global batch of {trial * unit}')
    step, _ = place.compile(
        absent_runs.absent_run(
            changed, mesh, slices=place.num_slices).trace_train_step(),
        compiler_effort(config))
    if step.error is None:
      fits = trial
      trial = math.ceil(trial * 1.25)
    else:
      too_large = trial
    if too_large is not None:
      if too_large - fits <= max(1, fits // 16):
        break
      # Far apart, the guess was no good: halve the order of magnitude.
      trial = (math.isqrt(fits * too_large) if too_large > 4 * fits
               else (fits + too_large) // 2)
  return fits * unit


def with_batch(config: schema.Experiment, batch: int) -> schema.Experiment:
  """The config with another batch, of the same share of images."""
  images = config.data.image_rows * batch // config.data.batch_size
  return dataclasses.replace(config, data=dataclasses.replace(
      config.data, batch_size=batch, image_rows=images))


def _batch_unit(config: schema.Experiment, mesh) -> int:
  """Smallest step of the batch that keeps its share of images."""
  shards = mesh_lib.num_batch_shards(mesh)
  batch, images = config.data.batch_size, config.data.image_rows
  parts = batch // math.gcd(batch, images) if images else 1
  return shards * parts * config.optimizer.accumulation_steps


def _memory(run: absent_runs.AbsentRun, found: programs.Found
            ) -> dict[str, Any]:
  """Bytes of one chip, and whether they fit."""
  place, step = found.place, found.compiled
  devices = place.chip.num_devices
  state, shardings = run.state, run.shardings
  parts = dict(
      parameters=aot.device_bytes(state.params, shardings.params),
      optimizer=aot.device_bytes(state.opt_state, shardings.opt_state),
      averages=aot.device_bytes(state.ema, shardings.ema),
      batch=batch_bytes(run))
  if run.stage.frozen:
    parts['frozen'] = aot.device_bytes(run.stage.frozen, run.frozen_shardings)
  # Activations, gradients and the compiler's own copies and program.
  parts['activations'] = max(step.needed_bytes - sum(parts.values()), 0)
  parts = {name: devices * size for name, size in parts.items()}
  capacity, needed = place.chip.hbm_bytes, devices * step.needed_bytes
  return dict(
      hbm_capacity_bytes=capacity, hbm_needed_bytes=needed,
      hbm_headroom_bytes=capacity - needed, fits=step.error is None,
      memory_by_part=parts,
      **({} if step.error is None else dict(compiler_message=step.error)))


def batch_bytes(run: absent_runs.AbsentRun) -> int:
  """Bytes of the batch that one device holds."""
  rows = mesh_lib.batch_sharding(run.mesh)
  return aot.device_bytes(
      run.batch, jax.tree.map(lambda _: rows, run.batch))


def _communication(run: absent_runs.AbsentRun, step: aot.Compiled
                   ) -> dict[str, Any]:
  if step.error is not None:
    return {}
  moved = sorted(step.collectives, key=lambda one: -one.largest_bytes)
  weights = weight_sizes(run)
  other = [one for one in moved if element_count(one.shape) not in weights]
  return dict(
      collectives=collectives_lib.totals(moved),
      one_layer_bytes=one_layer_bytes(run),
      largest_collective_bytes=max(
          (one.largest_bytes for one in moved), default=0),
      # Neither a weight or its gradient nor a shard of one.
      largest_other_bytes=max(
          (one.largest_bytes for one in other), default=0),
      largest_collectives=[
          dataclasses.asdict(one) for one in moved[:_LARGEST_SHOWN]],
      largest_others=[
          dataclasses.asdict(one) for one in other[:_LARGEST_SHOWN]])


def one_layer_bytes(run: absent_runs.AbsentRun) -> int:
  """Bytes of the weights of one layer, float32; where layers are not stacked,
  of the largest group of weights below one name."""
  groups: dict[str, int] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(run.state.params):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    stacked = name.startswith('layers/')
    group = '/'.join(name.split('/')[:2 if stacked else -2])
    size = leaf.size // (leaf.shape[0] if stacked else 1) * 4
    groups[group] = groups.get(group, 0) + size
  return max(groups.values())


def weight_sizes(run: absent_runs.AbsentRun) -> set[int]:
  """Element counts that a weight can have: whole, cut, of one layer."""
  cuts = {math.prod(run.mesh.shape[name] for name in names)
          for names in ((), ('data',), ('fsdp',), ('tensor',),
                        ('data', 'fsdp'), ('fsdp', 'tensor'),
                        ('data', 'tensor'), ('data', 'fsdp', 'tensor'))}
  sizes = set()
  for path, leaf in jax.tree_util.tree_leaves_with_path(run.state.params):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    wholes = {leaf.size}
    if name.startswith('layers/'):
      wholes.add(leaf.size // leaf.shape[0])
    sizes |= {whole // cut for whole in wholes for cut in cuts}
  return sizes


def element_count(shape: str) -> int:
  """Elements of 'bf16[1792,9216]'."""
  dims = shape[shape.index('[') + 1:-1]
  return math.prod(int(size) for size in dims.split(',') if size)


def _roofline(run, found: programs.Found) -> dict[str, Any]:
  chip = found.place.chip
  return dict(
      **dataclasses.asdict(found.roofline),
      executed_flops_per_step=executed_flops(run),
      peak_flops_per_chip=chip.peak_flops,
      link_bytes_per_second=chip.link_bandwidth,
      assumptions=list(roofline_lib.ASSUMPTIONS))


def executed_flops(run: absent_runs.AbsentRun) -> int:
  """Products of one step as it runs, recomputation included."""
  return counting.product_flops(
      run.stage.train_step, run.state, run.batch,
      jax.eval_shape(lambda: jax.random.key(0)), run.stage.frozen)


def _largest_estimate(run, found: programs.Found, batch: int) -> int:
  """Batch at which memory would be full, if activations grew as it does.

  What does not grow (workspace, gathered weights) makes it an underestimate.
  """
  step, chip = found.compiled, found.place.chip
  assert step.temporary_bytes is not None
  shards = mesh_lib.num_batch_shards(run.mesh)
  fixed = step.needed_bytes - step.temporary_bytes - batch_bytes(run)
  growing = (step.temporary_bytes + batch_bytes(run)) / (batch / shards)
  room = chip.hbm_bytes / chip.num_devices - fixed
  return max(int(room / growing), 0) * shards


def _sampler(run, found: programs.Found) -> dict[str, Any]:
  """Memory and times of drawing one sample a batch shard."""
  program, chip = found.compiled, found.place.chip
  result = dict(
      num_samples=run.num_samples, fits=found.fits,
      hbm_capacity_bytes=chip.hbm_bytes,
      hbm_needed_bytes=chip.num_devices * program.needed_bytes,
      collectives=collectives_lib.totals(program.collectives),
      compile_seconds=program.seconds)
  if found.fits:
    estimate = found.roofline
    result |= dict(flops=found.executed_flops, seconds=estimate.step_seconds,
                   slow_seconds=estimate.slow_step_seconds,
                   predicted_seconds=found.seconds)
  return result


def _mesh_name(mesh) -> str:
  return ' x '.join(f'{name} {size}' for name, size in mesh.shape.items())

