"""Memory of a config on N GPUs: an estimate from the trace, not compiled.

Nothing is compiled, and no chip is named: whether a program fits is not said
(`fits` is null). `gpu_topology` compiles for chips by name.
"""
import re
from typing import Any

import jax
from jax.sharding import AxisType

from walt_jax.builders import absent_runs
from walt_jax.builders import meshes
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.parallel import liveness
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import aot

PREFIX = 'gpu:'
NOTE = ('an estimate: what is alive at the worst point of the trace, without '
        "the compiler's fusions, its workspace and the data in flight")


def num_gpus(name: str) -> int:
  """The N of 'gpu:N'.

  Raises:
    UserError: On anything else.
  """
  match = re.fullmatch(r'gpu:([1-9]\d*)', name)
  if not match:
    raise errors.UserError(
        f'--topology {name}: give gpu:N with N of 1 or more, such as gpu:8')
  return int(match.group(1))


def gpu_plan(config: schema.Experiment, name: str) -> dict[str, Any]:
  """Estimates the memory of one of N GPUs.

  Raises:
    UserError: On a wrong name, or a config that does not fit the mesh.
  """
  count = num_gpus(name)
  mesh = abstract_mesh(meshes.with_sizes(config, count, 'gpu'), count)
  run = absent_runs.absent_run(config, mesh, platform='gpu')
  parts = estimate_parts(run)
  return dict(
      topology=name, chip='gpu', num_chips=count, mesh=dict(mesh.shape),
      hbm_capacity_bytes=None, hbm_needed_bytes=sum(parts.values()),
      fits=None, memory_by_part=parts, memory_note=NOTE)


def abstract_mesh(config: schema.Experiment, num_devices: int):
  """The config's mesh without devices."""
  shape = mesh_lib.mesh_shape(
      config.mesh.data, config.mesh.fsdp, config.mesh.tensor, num_devices)
  return jax.sharding.AbstractMesh(
      shape, mesh_lib.AXES, axis_types=(AxisType.Auto,) * len(shape))


def held_parts(run: absent_runs.AbsentRun) -> dict[str, int]:
  """Bytes of one device that last from step to step, and of its batch."""
  state, shardings = run.state, run.shardings
  rows = local_batch(run)
  held = dict(
      parameters=aot.device_bytes(state.params, shardings.params),
      optimizer=aot.device_bytes(state.opt_state, shardings.opt_state),
      averages=aot.device_bytes(state.ema, shardings.ema),
      batch=aot.device_bytes(
          rows, jax.tree.map(lambda _: mesh_lib.replicated(run.mesh), rows)))
  if run.stage.frozen:
    held['frozen'] = aot.device_bytes(run.stage.frozen, run.frozen_shardings)
  return held


def local_batch(run: absent_runs.AbsentRun) -> Any:
  """Shapes of the rows of one device."""
  shards = mesh_lib.num_batch_shards(run.mesh)
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((x.shape[0] // shards, *x.shape[1:]),
                                     x.dtype), run.batch)


def estimate_parts(run: absent_runs.AbsentRun) -> dict[str, int]:
  """Bytes of one device by part, estimated from the trace of the train step.

  Gradients are as large as the parameters, and cut like them; the rest of
  what is alive grows with the rows of a device.
  """
  held = held_parts(run)
  state = run.state
  whole = sum(leaf.size * leaf.dtype.itemsize
              for leaf in jax.tree.leaves(state.params))
  inputs = (state, local_batch(run),
            jax.eval_shape(lambda: jax.random.key(0)), run.stage.frozen)
  return held | dict(
      gradients=held['parameters'],
      activations=max(_peak_of_gradients(run, inputs) - whole, 0))


def _peak_of_gradients(run: absent_runs.AbsentRun, inputs: tuple) -> int:
  """Peak of a step without its updates: gradients, whole, and activations."""
  def gradient_norm(*arguments):
    _, metrics = run.stage.train_step(*arguments)
    return metrics['grad_norm']

  return liveness.peak_bytes(gradient_norm, *inputs)
