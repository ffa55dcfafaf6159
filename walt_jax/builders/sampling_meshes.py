"""The mesh that trained stages draw on, and how it holds their weights."""
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import math

import jax

from walt_jax.builders import denoiser_runs
from walt_jax.builders import meshes
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.models import compute_type
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models.kernels import fused_attention
from walt_jax.parallel import cuts
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules

_GIB = 1 << 30


def sampling_mesh(config: schema.DenoiserExperiment,
                  asked: Mapping[str, int] | None,
                  devices: Sequence[jax.Device]) -> jax.sharding.Mesh:
  """The mesh to draw on: what is asked for, or the run's own.

  Where the run's own does not fit the devices, weights that it cut over `fsdp`
  are cut as far as they can be, and others lie whole on each device.

  Args:
    config: Config of the base.
    asked: Sizes of axes, as in a config's section `mesh`; None: the run's own.
    devices: What to share.

  Raises:
    UserError: What is asked for does not fit.
  """
  if asked is not None:
    return meshes.mesh_of(_with(config, schema.Mesh(**asked)), devices)
  try:
    return meshes.mesh_of(config, devices)
  except errors.UserError:
    cut = config.mesh.fsdp != 1
    return meshes.mesh_of(_with(config, schema.Mesh(
        data=1 if cut else -1, fsdp=-1 if cut else 1)), devices)


def _with(config: schema.DenoiserExperiment, mesh: schema.Mesh
          ) -> schema.DenoiserExperiment:
  return dataclasses.replace(config, mesh=mesh)


def check_context(config: schema.DenoiserExperiment,
                  denoiser: denoiser_lib.Denoiser,
                  mesh: jax.sharding.Mesh) -> None:
  """Checks that a mesh's axis `context` cuts a stage's tokens and heads.

  Raises:
    UserError: If it does not.
  """
  parts = mesh_lib.num_context_parts(mesh)
  if parts == 1:
    return
  latents = config.latents
  grid = (latents.frames, latents.height // denoiser.patch,
          latents.width // denoiser.patch)
  ordered = fused_attention.token_order(
      denoiser.attention_form, grid,
      (denoiser.spatial_window, denoiser.spacetime_window))
  columns = grid[1] * grid[2] if ordered else grid[2]
  heads = denoiser.num_heads // mesh.shape['tensor']
  if columns % parts or heads % parts:
    raise errors.UserError(
        f'mesh.context={parts} does not divide {columns} columns of tokens '
        f'and {heads} heads; make it a divisor of {math.gcd(columns, heads)}')


def weights_words(config: schema.DenoiserExperiment,
                  mesh: jax.sharding.Mesh) -> str:
  """How a stage's weights lie on a mesh, such as 'whole, 1.2 GiB a device'."""
  bare = denoiser_runs.bare_stage(config, mesh_lib.platform(mesh))
  params = jax.eval_shape(
      functools.partial(compute_type.cast, bare.objective.denoiser),
      bare.shapes)
  found = cuts.cut(params, mesh.shape, rules.DENOISER_RULES)
  how = [f'cut by heads and MLP units over tensor {mesh.shape["tensor"]}'] * (
      mesh.shape['tensor'] > 1)
  if mesh.shape['fsdp'] > 1:
    how.append(f'{found.share:.0%} cut over fsdp {mesh.shape["fsdp"]}, '
               'gathered layer by layer')
  return (f'{" and ".join(how) or "whole"}, '
          f'{found.device_bytes / _GIB:.3g} GiB a device')
