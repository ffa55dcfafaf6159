"""Checkpoints of a run: train state, data position and config, together."""
from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import json
import logging
import math
import pathlib
import re
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.parallel import multihost
from walt_jax.parallel import rules as partition
from walt_jax.training import state as train_state
from walt_jax.training import workdir as workdir_lib

PyTree = Any

# Keys that a resumed run may set otherwise: they do not change what is learnt
# by which step. `optimizer.decay_steps`, not `train.num_steps`, sets the rate.
_FREE_KEYS = re.compile(
    r'^(train|mesh|sampler|derived\.frame_rate)(\.|$)'
    r'|^tokenizer\.encode_rows$'
    r'|^model\.(attention_form|passes_form|remat_policy|scan_unroll)$'
    r'|(^|[._])(num_workers|workers|path|workdir|dir)$')


# Bytes of a copy's share from which the devices that hold copies of an array
# write it together: to cut out a share is a program of its own for every shape
# and device, which takes longer to compile than small arrays take to write.
SHARE_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Keep:
  """Which checkpoints stay; any of these reasons is enough.

  Attributes:
    newest: How many of the newest.
    every: Those at multiples of this step; 0: none.
    best: How many of those with the best metric; 0: none.
    metric: Name of the metric, as in `metrics.jsonl`.
    mode: Whether the best value is the smallest ('min') or the largest.
  """
  newest: int = 2
  every: int = 0
  best: int = 0
  metric: str = ''
  mode: str = 'min'

  def value(self, metrics: Mapping[str, float]) -> float:
    """A checkpoint's rank: of two, the larger is better."""
    value = metrics.get(self.metric, math.nan)
    if math.isnan(value):
      return -math.inf
    return -value if self.mode == 'min' else value

  def options(self) -> ocp.CheckpointManagerOptions:
    """The same for Orbax."""
    managers = ocp.checkpoint_managers
    policies: list[Any] = [managers.LatestN(self.newest)]
    if self.every:
      policies.append(managers.EveryNSteps(self.every))
    if self.best:
      policies.append(managers.BestN(
          get_metric_fn=self.value, n=self.best,
          keep_checkpoints_without_metrics=False))
    return ocp.CheckpointManagerOptions(
        preservation_policy=managers.AnyPreservationPolicy(policies),
        # Orbax writes metrics down, and reads them, for this function alone.
        best_fn=self.value if self.best else None,
        cleanup_tmp_directories=True, enable_async_checkpointing=True)


_TWO_NEWEST = Keep()


class Checkpoints:
  """Saves and restores one run in `workdir`.

  Attributes:
    workdir: The run's directory.
    config: The run's config, as plain JSON values.
    keep: Which checkpoints stay.
  """

  def __init__(
      self,
      workdir: str | pathlib.Path,
      config: Mapping[str, Any],
      *,
      keep: Keep = _TWO_NEWEST,
  ):
    """Opens a work directory, new or old; writes nothing yet.

    Args:
      workdir: Created by the first write.
      config: The config to train with, compared with the saved one.
      keep: Which checkpoints stay.

    Raises:
      UserError: If the directory holds a run of another config.
    """
    self.workdir = paths.absolute(workdir)
    self.config = json.loads(json.dumps(config))
    if self.workdir.exists() and not self.workdir.is_dir():
      raise errors.UserError(f'--workdir {workdir} is a file, not a directory')
    found = workdir_lib.WorkDir(self.workdir)
    if found.config_file.exists():
      check_resume(found.config(), self.config)
    self.keep = keep
    self._options = keep.options()
    self._opened: ocp.CheckpointManager | None = None

  @property
  def _manager(self) -> ocp.CheckpointManager:
    if self._opened is None:
      paths.make_folder(self.workdir)
      self._opened = ocp.CheckpointManager(
          self.workdir / run_files.CHECKPOINTS, options=self._options,
          item_names=('state', 'data', 'config'),
          item_handlers={'state': _state_handler()})
    return self._opened

  def write_config(self) -> None:
    """Writes `config.json`, whole or not at all."""
    if multihost.is_main():
      paths.make_folder(self.workdir)
      files.write_json(self.workdir / run_files.CONFIG, self.config,
                       sort_keys=True)

  def latest_step(self) -> int | None:
    """Returns the step of the newest whole checkpoint."""
    return workdir_lib.WorkDir(self.workdir).newest_step()

  def save(self, step: int, state: PyTree, next_batch: int,
           metrics: Mapping[str, float] | None = None) -> None:
    """Copies the state off the devices and writes it in the background.

    Args:
      step: Steps taken.
      state: The train state; it may be donated as soon as this returns.
      next_batch: Index of the next global batch to train on.
      metrics: What an evaluation of this very state gave, if there was one;
        only with it can it be among the best.
    """
    with _unasked_metrics():
      self._manager.save(step, args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(state),
          data=ocp.args.JsonSave({'next_batch': next_batch}),
          config=ocp.args.JsonSave(self.config)), metrics=metrics, force=True)

  def restore(self, abstract_state: PyTree) -> tuple[PyTree, int]:
    """Restores the newest checkpoint, written on whatever mesh.

    Args:
      abstract_state: Shapes, types and shardings to restore to.

    Returns:
      The state and the index of the next global batch.
    """
    restored = self._manager.restore(
        self._manager.latest_step(), args=ocp.args.Composite(
            state=restore_args(abstract_state),
            data=ocp.args.JsonRestore()))
    return restored['state'], restored['data']['next_batch']

  def wait(self) -> None:
    """Waits until the checkpoint under way is whole."""
    if self._opened is not None:
      self._opened.wait_until_finished()

  def close(self) -> None:
    """Waits, and ends the background threads."""
    if self._opened is not None:
      self._opened.close()
      self._opened = None


@contextlib.contextmanager
def _unasked_metrics() -> Iterator[None]:
  """Keeps Orbax from warning of checkpoints that were not evaluated."""
  logger = logging.getLogger('absl')
  said = lambda record: 'did not provide metrics' not in record.getMessage()
  logger.addFilter(said)
  try:
    yield
  finally:
    logger.removeFilter(said)


def _state_handler() -> ocp.PyTreeCheckpointHandler:
  """Orbax's own handler, apart from `SHARE_BYTES`."""
  types = ocp.type_handlers
  of_arrays = types.ArrayHandler(
      min_slice_bytes_for_replica_parallel=SHARE_BYTES)
  return ocp.PyTreeCheckpointHandler(
      type_handler_registry=types.create_type_handler_registry(*(
          (kind, of_arrays if kind is jax.Array
           else types.get_type_handler(kind))
          for kind in types.supported_types())))


def restore_args(abstract: PyTree) -> ocp.args.PyTreeRestore:
  """How to restore a tree to these shapes, types and shardings."""
  return ocp.args.PyTreeRestore(
      item=abstract,
      restore_args=ocp.checkpoint_utils.construct_restore_args(abstract))


def check_resume(saved: Mapping[str, Any], new: Mapping[str, Any]) -> None:
  """Refuses to continue with a config that another run was begun with.

  Only `train.*`, `sampler.*`, `mesh`, how layers are executed, worker counts
  and paths may differ.

  Raises:
    UserError: Names the first key that differs, both values, and the fix.
  """
  old, now = _flat(saved), _flat(new)
  for key in sorted(old.keys() | now.keys()):
    if old.get(key) == now.get(key) and (key in old) == (key in now):
      continue
    if not _FREE_KEYS.search(key):
      was = json.dumps(old[key]) if key in old else 'absent'
      wants = json.dumps(now[key]) if key in now else 'absent'
      raise errors.UserError(
          f'config key {key} is {wants} but the work directory was begun with '
          f'{was}; set --config.{key}={was} or use a new --workdir')


def _flat(tree: Any, prefix: str = '') -> dict[str, Any]:
  """Returns {'a.b': value}; tuples and lists compare equal."""
  if isinstance(tree, Mapping) and tree:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
      flat |= _flat(value, f'{prefix}.{key}' if prefix else str(key))
    return flat
  return {prefix: json.loads(json.dumps(tree))}


def restore_params(
    workdir: str | pathlib.Path,
    *,
    ema: bool = True,
    step: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    rules: partition.Rules | None = None,
) -> PyTree:
  """Reads the parameters alone: no optimizer is built, no moment is read.

  Args:
    workdir: A run's directory.
    ema: The average of the longest memory, where the run kept one; a run
      without averages gives its parameters.
    step: Which checkpoint; the newest by default.
    mesh: Restores onto this mesh by `rules`; without it, into host memory.
    rules: Partition rules of the parameters.

  Returns:
    Nested dict of float32 arrays: jax.Arrays with a mesh, else NumPy's.

  Raises:
    UserError: If there is no such checkpoint.
  """
  path = workdir_lib.WorkDir(workdir).checkpoint(step)
  handler = ocp.PyTreeCheckpointHandler()
  try:
    item = _params_item(handler, path, ema)
    if mesh is None:
      how = jax.tree.map(
          lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
    else:
      item = jax.tree.map(
          lambda leaf, sharding: jax.ShapeDtypeStruct(
              leaf.shape, leaf.dtype, sharding=sharding),
          item, partition.tree_shardings(item, mesh, rules or ()))
      how = ocp.checkpoint_utils.construct_restore_args(item)
    restored = handler.restore(path / 'state', args=ocp.args.PyTreeRestore(
        item=item, restore_args=how, partial_restore=True))
  finally:
    handler.close()
  return _only_params(restored)


def params_shapes(workdir: str | pathlib.Path, *, ema: bool = True,
                  step: int | None = None) -> PyTree:
  """Shapes and types of what `restore_params` would read, with its errors."""
  path = workdir_lib.WorkDir(workdir).checkpoint(step)
  handler = ocp.PyTreeCheckpointHandler()
  try:
    return _only_params(_params_item(handler, path, ema))
  finally:
    handler.close()


def _params_item(handler: ocp.PyTreeCheckpointHandler, path: pathlib.Path,
                 ema: bool) -> PyTree:
  """The part of a saved state that holds the parameters, as shapes."""
  saved = handler.metadata(path / 'state').tree
  averages = saved.get('ema') or {}
  decay = train_state.longest_average(averages)
  if ema and decay is not None:
    item = {'ema': {decay: averages[decay]}}
  else:
    item = {'params': saved['params']}
  return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), item)


def _only_params(item: PyTree) -> PyTree:
  return (next(iter(item['ema'].values())) if 'ema' in item
          else item['params'])
