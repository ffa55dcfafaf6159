"""The mesh of a config: axes that are left open are filled in by its state."""
from collections.abc import Sequence
import dataclasses
import math

import jax

from walt_jax.builders import denoiser_runs
from walt_jax.builders import schema
from walt_jax.builders import tokenizer_runs
from walt_jax.core import errors
from walt_jax.parallel import cuts
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.training import state as train_state


def mesh_of(config: schema.Experiment,
            devices: Sequence[jax.Device] | None = None,
            slices: int = -1) -> jax.sharding.Mesh:
  """Returns the mesh that a config asks for.

  Args:
    config: Config of any stage.
    devices: What to share; by default all that there are.
    slices: Slices that these are of, where they do not say; `mesh.slices`
      comes first.

  Raises:
    errors.UserError: If the axes do not fit the devices, or `mesh.fsdp` leaves
      more than a tenth of the state whole.
  """
  devices = mesh_lib.available() if devices is None else list(devices)
  if config.mesh.slices != -1:
    slices = config.mesh.slices
  groups = mesh_lib.by_slice(devices, slices)
  mesh = with_sizes(config, len(devices), devices[0].platform,
                    num_slices=len(groups)).mesh
  return mesh_lib.make_mesh(
      mesh.data, mesh.fsdp, mesh.tensor, devices, len(groups),
      context=mesh.context)


def check_training(config: schema.Experiment) -> None:
  """Refuses to train with what serves sampling alone.

  Raises:
    errors.UserError: If the mesh has an axis `context`.
  """
  if config.mesh.context > 1:
    raise errors.UserError(
        f'config key mesh.context is {config.mesh.context}, which is for '
        'sampling alone; train with 1 (and plan with --no_train_step)')


def with_sizes(config: schema.Experiment, num_devices: int, platform: str,
               num_slices: int = 1) -> schema.Experiment:
  """Returns the config with the sizes of its mesh.

  `mesh.fsdp` = -1 becomes the largest size that cuts at least 95% of the
  state, and `mesh.data` takes the devices that are left.

  Args:
    config: Config of any stage.
    num_devices: Devices to share.
    platform: Platform of the devices, on which some forms are refused.
    num_slices: Slices that these are of; `mesh.fsdp` stays inside one.

  Raises:
    errors.UserError: As by `mesh_of`.
  """
  mesh = config.mesh
  data, fsdp, tensor = mesh_lib.mesh_shape(
      mesh.data, mesh.fsdp, mesh.tensor,
      mesh_lib.without_context(num_devices, mesh.context))
  if fsdp > 1:
    state, rules = state_of(config, platform)
    shared = data * fsdp  # Devices but for `tensor`.
    if mesh.fsdp == -1:
      limit = math.gcd(fsdp, shared // num_slices)
      fsdp = cuts.largest_fsdp(state, limit, tensor, rules)
      data = shared // fsdp
    else:
      cuts.check_fsdp(state, fsdp, shared // num_slices, tensor, rules)
  return dataclasses.replace(config, mesh=dataclasses.replace(
      mesh, data=data, fsdp=fsdp, tensor=tensor))


def state_of(config: schema.Experiment, platform: str
             ) -> tuple[train_state.TrainState, partition.Rules]:
  """Returns the shapes of a config's state, and the rules that cut it."""
  if isinstance(config, schema.TokenizerExperiment):
    stage = tokenizer_runs.bare_stage(config, platform)[1]
    return jax.eval_shape(stage.init, jax.random.key(0)), stage.rules
  assert isinstance(config, schema.DenoiserExperiment)
  bare = denoiser_runs.bare_stage(config, platform)
  return jax.eval_shape(bare.create, bare.shapes), bare.stage.rules
