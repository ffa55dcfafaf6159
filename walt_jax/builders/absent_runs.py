"""The programs of a config for devices that are not there: shapes, no data."""
from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.builders import denoiser_runs
from walt_jax.builders import objectives
from walt_jax.builders import sampling_meshes
from walt_jax.builders import schema
from walt_jax.builders import tokenizer_runs
from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.models import compute_type
from walt_jax.parallel import compiler_options
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.sampling import settings
from walt_jax.training import compiled
from walt_jax.training import stage as stage_lib

PyTree = Any
# Samples that `walt sample` draws at once unless told otherwise.
NUM_SAMPLES = settings.DEFAULT_BATCH_SIZE
_struct = jax.ShapeDtypeStruct


@dataclasses.dataclass(frozen=True)
class AbsentRun:
  """A config's train step and sampler on a mesh of absent devices.

  Attributes:
    stage: What is trained; it takes the batch as it is.
    mesh: The devices.
    state: Shapes of the train state.
    draw_params: Shapes of the parameters that `draw` takes.
    shardings: Shardings of the state.
    batch: Shapes of a global batch, as the train step takes it.
    frozen_shardings: Shardings of the stage's frozen parameters.
    draw: `draw(params, ..)` of the sampler; a tokenizer decodes.
    draw_inputs: Shapes of its inputs beside the parameters; all but scalars
      are rows of the samples.
    num_samples: Samples that one call draws, as many a batch shard.
  """
  stage: stage_lib.Stage
  mesh: jax.sharding.Mesh
  state: PyTree
  draw_params: PyTree
  shardings: PyTree
  batch: PyTree
  frozen_shardings: PyTree
  draw: Callable[..., jax.Array]
  draw_inputs: tuple[PyTree, ...]
  num_samples: int

  def trace_train_step(self) -> jax.stages.Traced:
    """Traces the very program that training runs."""
    stage = self.stage
    with partition.activate(self.mesh):
      return compiled.jit_train_step(
          stage, self.mesh, self.shardings, self.frozen_shardings).trace(
              self.state, _struct((), bool), self.batch, _key(),
              stage.frozen)

  def lower_train_step(self) -> jax.stages.Lowered:
    """Lowers the very program that training runs."""
    return self.trace_train_step().lower()

  def trace_sampler(self) -> jax.stages.Traced:
    """Traces the loop that `walt sample` draws a batch with."""
    rows = mesh_lib.drawn_sharding(self.mesh, self.num_samples)
    everywhere = mesh_lib.replicated(self.mesh)
    cut = jax.tree.map(
        lambda x: rows if x.shape else everywhere, self.draw_inputs)
    with partition.activate(self.mesh):
      return jax.jit(
          self.draw, in_shardings=(self.shardings.params, *cut),
          out_shardings=rows,
          compiler_options=compiler_options.of(mesh_lib.platform(self.mesh)),
      ).trace(self.draw_params, *self.draw_inputs)

  def lower_sampler(self) -> jax.stages.Lowered:
    """Lowers the loop that `walt sample` draws a batch with."""
    return self.trace_sampler().lower()


def absent_run(config: schema.Config, mesh: jax.sharding.Mesh,
               platform: str | None = None, *,
               num_samples: int = NUM_SAMPLES, slices: int = -1) -> AbsentRun:
  """Builds the programs of a config.

  Args:
    config: Config of any stage, checked or as a config file gives it.
    mesh: Mesh of absent devices; with an abstract one nothing can be lowered.
    platform: Decides the programs' forms; by default the mesh's own.
    num_samples: Samples that a denoiser's sampler draws at once, at least; as
      in `walt sample` every batch shard gets as many. A tokenizer decodes one
      clip a batch shard.
    slices: Slices of the devices, where they do not say; `mesh.slices` comes
      first.

  Raises:
    UserError: On anything in the config that does not fit, or a batch that
      does not divide over the mesh.
  """
  experiment = schema.of(config)
  shards = mesh_lib.num_batch_shards(mesh)
  for name in ('batch_size', 'image_rows'):
    rows = getattr(experiment.data, name)
    if rows % shards:
      raise errors.UserError(
          f'config key data.{name} is {rows}, which does not divide over '
          f'mesh.data * mesh.fsdp = {shards}; make it a multiple, or set '
          'mesh.tensor')
  platform = platform or mesh_lib.platform(mesh)
  if isinstance(experiment, schema.TokenizerExperiment):
    return _tokenizer(experiment, mesh, platform, shards)
  assert isinstance(experiment, schema.DenoiserExperiment)
  if experiment.mesh.slices != -1:
    slices = experiment.mesh.slices
  return _denoiser(
      experiment, mesh, platform, mesh_lib.slow_axis(mesh, slices), num_samples)


def _denoiser(config: schema.DenoiserExperiment, mesh, platform: str,
              apart: str | None, num_samples: int) -> AbsentRun:
  shards = mesh_lib.num_batch_shards(mesh)
  bare = denoiser_runs.bare_stage(config, platform, shards, apart)
  row = denoiser_runs.example_latents(config)
  batch = dataclasses.replace(
      _rows(row, config.data.batch_size),
      row=_struct((config.data.batch_size,), jnp.int32))
  drawing = objectives.stage_settings(config)
  num_samples = mesh_lib.drawn_rows(
      mesh, num_samples, drawing.guidance.num_passes)
  sampling_meshes.check_context(config, bare.objective.denoiser, mesh)
  draw = objectives.stage_sampler_of(bare.objective, config).make(
      drawing.options, drawing.guidance)
  # A sample has one of each condition; images are drawn as clips are.
  first = dataclasses.replace(row, **jax.tree.map(_first, dict(
      label=row.label, text=row.text, text_mask=row.text_mask, own=row.own)))
  conditioning = dataclasses.replace(
      bare.objective.conditioning(_rows(first, num_samples)), is_image=None)
  return _finish(
      bare.stage, mesh, batch, draw=draw,
      prepare=functools.partial(
          compute_type.cast, bare.objective.denoiser),
      draw_inputs=(_keys(num_samples), conditioning, _struct((), jnp.float32)),
      num_samples=num_samples)


def _tokenizer(config: schema.TokenizerExperiment, mesh, platform: str,
               shards: int) -> AbsentRun:
  module, stage = tokenizer_runs.bare_stage(config, platform)
  data = config.data
  clip = (data.height, data.width, 3)
  rows = lambda count, frames: types.Rows(
      pixels=_struct((count, frames, *clip), jnp.uint8)) if count else None
  batch = types.Batch(
      videos=rows(data.batch_size - data.image_rows, data.num_frames),
      images=rows(data.image_rows, 1))
  latents = module.latent_shape((shards, data.num_frames, *clip))
  return _finish(
      stage, mesh, batch, prepare=lambda params: params,
      draw=lambda params, x: module.apply(
          {'params': params['autoencoder']}, x, method='decode'),
      draw_inputs=(_struct(latents, jnp.float32),), num_samples=shards)


def _finish(stage: stage_lib.Stage, mesh, batch, *,
            prepare: Callable[[PyTree], PyTree], **sampler) -> AbsentRun:
  state = jax.eval_shape(stage.init, _key())
  frozen = jax.tree.map(lambda x: _struct(x.shape, x.dtype), stage.frozen)
  return AbsentRun(
      dataclasses.replace(stage, frozen=frozen), mesh, state,
      jax.eval_shape(prepare, state.params),
      partition.tree_shardings(state, mesh, stage.rules), batch,
      partition.tree_shardings(frozen, mesh, stage.frozen_rules), **sampler)


def _rows(row: PyTree, count: int) -> PyTree:
  """Shapes of `count` rows like the one of `row`."""
  return jax.tree.map(
      lambda x: _struct((count, *x.shape[1:]), x.dtype), row)


def _first(x):
  return _struct((x.shape[0], 1, *x.shape[2:]), x.dtype)


def _key():
  return jax.eval_shape(lambda: jax.random.key(0))


def _keys(count: int):
  return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
