"""The mesh that trained stages draw on, and how it holds their weights."""
from collections.abc import Mapping, Sequence
import dataclasses
import functools

import jax

from walt_jax.builders import denoiser_runs
from walt_jax.builders import meshes
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.models import compute_type
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models import tile_order
from walt_jax.models import token_cuts
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
  windows = (denoiser.spatial_window, denoiser.spacetime_window)
  if tile_order.tile_order(grid, windows) is None:
    raise errors.UserError(
        f'mesh.context={parts} cannot cut frames of {grid[1]}x{grid[2]} tokens '
        f'with windows {windows[0]} and {windows[1]}: it takes windows that '
        'see all of a frame, or all the same part of it; set mesh.context=1')
  refusal = lambda parts: token_cuts.refusal(
      parts, grid[1] * grid[2], denoiser.num_heads // mesh.shape['tensor'],
      tuple(window[1] * window[2] for window in windows))
  reason = refusal(parts)
  if reason is not None:
    served = [n for n in range(2, mesh.size + 1) if refusal(n) is None]
    raise errors.UserError(
        f'mesh.context={parts} {reason}; these sizes serve: '
        f'{", ".join(map(str, [1, *served]))}')


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
