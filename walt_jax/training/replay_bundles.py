"""Replay bundles: all that a step that failed needs to fail again.

A bundle holds the state before the step, the batch, the run's random key and
the config: `walt train --replay BUNDLE` takes the step again, on any mesh.
"""
import dataclasses
import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np
import orbax.checkpoint as ocp

from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.training import checkpoints

PyTree = Any
MAX_BUNDLES = 3  # Of one work directory; each is as large as a checkpoint.


@dataclasses.dataclass(frozen=True)
class Failure:
  """A step that failed.

  Attributes:
    step: Steps taken before it.
    batch: Number of its global batch.
    key: The run's training key as `jax.random.key_data` gives it.
    metrics: What it computed, finite or not.
    config: Config of the run, as in `config.json`.
  """
  step: int
  batch: int
  key: list[int]
  metrics: dict[str, float]
  config: dict[str, Any]

  @property
  def culprits(self) -> str:
    """The metrics that are not finite, as in 'loss nan, grad_norm inf'."""
    return ', '.join(f'{name} {value}' for name, value in self.metrics.items()
                     if not np.isfinite(value))


def path_of(workdir: str | pathlib.Path, step: int) -> pathlib.Path:
  """Where the bundle of a step goes."""
  return paths.path(workdir) / run_files.REPLAY / f'step_{step:08d}'


def kept(workdir: str | pathlib.Path) -> set[int]:
  """Steps of the bundles in a work directory, as its main process sees it.

  All processes call it and get the same, at most `MAX_BUNDLES` of them.
  """
  directory = paths.path(workdir) / run_files.REPLAY
  found = (sorted(int(path.name.removeprefix('step_'))
                  for path in directory.glob('step_' + 8 * '[0-9]'))
           if directory.is_dir() else [])
  if jax.process_count() == 1:
    return set(found)
  steps = np.full(MAX_BUNDLES, -1, np.int32)
  steps[:len(found[:MAX_BUNDLES])] = found[:MAX_BUNDLES]
  steps = multihost_utils.broadcast_one_to_all(steps)
  return {int(step) for step in steps if step >= 0}


def save(path: pathlib.Path, failure: Failure, state: PyTree,
         batch: PyTree) -> None:
  """Writes a bundle, whole or not at all; all processes call it.

  Args:
    path: A folder that need not exist.
    failure: What happened.
    state: State before the step, on the mesh.
    batch: The global batch, on the mesh.
  """
  leaves = leaves_by_path(batch)
  info = dataclasses.asdict(failure) | dict(
      metrics={name: repr(value) for name, value in failure.metrics.items()},
      rows={name: dict(shape=list(leaf.shape), dtype=str(leaf.dtype))
            for name, leaf in leaves.items()})
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    checkpointer.save(
        paths.absolute(path), args=ocp.args.Composite(
            state=ocp.args.PyTreeSave(state),
            batch=ocp.args.PyTreeSave(_indexed(leaves)),
            info=ocp.args.JsonSave(info)), force=True)


def read_failure(path: str | pathlib.Path) -> Failure:
  """Reads what a bundle says of its step.

  Raises:
    UserError: If `path` is no bundle.
  """
  info = _info(path)
  try:
    metrics = {name: float(value) for name, value in info['metrics'].items()}
    return Failure(step=info['step'], batch=info['batch'], key=info['key'],
                   metrics=metrics, config=info['config'])
  except (KeyError, ValueError, AttributeError) as error:
    raise errors.UserError(f'{path} is a damaged replay bundle ({error}); '
                           'give another one') from error


def restore(path: str | pathlib.Path, abstract_state: PyTree,
            example: PyTree, mesh: jax.sharding.Mesh
            ) -> tuple[PyTree, PyTree]:
  """Reads a bundle's state and batch.

  Args:
    path: The bundle.
    abstract_state: Shapes, types and shardings to restore to.
    example: A batch of the same structure, whatever its shapes.
    mesh: Devices that get the batch.

  Returns:
    The state before the step and the global batch.

  Raises:
    UserError: If the bundle's batch is of another structure.
  """
  rows = _info(path)['rows']
  names = list(leaves_by_path(example))
  if sorted(names) != sorted(rows):
    raise errors.UserError(
        f'{path} holds a batch of {sorted(rows)}, but this config\'s data give '
        f'{sorted(names)}; replay with the config and data of the run')
  sharding = mesh_lib.batch_sharding(mesh)
  leaves = {name: jax.ShapeDtypeStruct(
      tuple(rows[name]['shape']), np.dtype(rows[name]['dtype']),
      sharding=sharding) for name in names}
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    restored = checkpointer.restore(
        paths.absolute(path), args=ocp.args.Composite(
            state=checkpoints.restore_args(abstract_state),
            batch=checkpoints.restore_args(_indexed(leaves))))
  arrays = dict(zip(sorted(leaves), sorted(restored['batch'].items()),
                    strict=True))
  return restored['state'], jax.tree.unflatten(
      jax.tree.structure(example), [arrays[name][1] for name in names])


def _info(path: str | pathlib.Path) -> dict[str, Any]:
  path = paths.absolute(path)
  if not all((path / part).is_dir() for part in ('state', 'batch', 'info')):
    raise errors.UserError(
        f'{path} is no replay bundle; give a folder such as '
        f'WORKDIR/{run_files.REPLAY}/step_00000123, which training writes when '
        'a step fails')
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    return checkpointer.restore(path, args=ocp.args.Composite(
        info=ocp.args.JsonRestore()))['info']


def leaves_by_path(batch: PyTree) -> dict[str, Any]:
  """Arrays by path, in the order of the tree."""
  flat, _ = jax.tree_util.tree_flatten_with_path(batch)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf
          for path, leaf in flat}


def _indexed(leaves: dict[str, Any]) -> dict[str, Any]:
  """The same under names that are file names, in the order of paths."""
  return {f'rows_{index:03d}': leaves[name]
          for index, name in enumerate(sorted(leaves))}
