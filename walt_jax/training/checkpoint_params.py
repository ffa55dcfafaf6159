"""Parameters of a checkpoint, without what only training needs."""
import pathlib
from typing import Any, NoReturn

import jax
import numpy as np
import orbax.checkpoint as ocp

from walt_jax.core import errors
from walt_jax.parallel import rules as partition
from walt_jax.training import checkpoint_records
from walt_jax.training import checkpoints
from walt_jax.training import state as train_state
from walt_jax.training import workdir as workdir_lib

PyTree = Any
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
  is_shared = mesh is not None and mesh.is_multi_process
  try:
    record = checkpoint_records.read(path)
  except ValueError as error:
    _refuse(workdir, path, str(error))
  restored, problem = checkpoints.restore_checked(
      path, lambda: _restore(path, ema, mesh, rules), record,
      is_shared=is_shared)
  if problem:
    _refuse(workdir, path, problem)
  return _only_params(restored)


def _restore(path: pathlib.Path, ema: bool, mesh: jax.sharding.Mesh | None,
             rules: partition.Rules | None) -> PyTree:
  """Reads the part of a saved state that holds the parameters."""
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
    return handler.restore(path / 'state', args=ocp.args.PyTreeRestore(
        item=item, restore_args=how, partial_restore=True))
  finally:
    handler.close()


def _refuse(workdir: str | pathlib.Path, path: pathlib.Path,
            problem: str) -> NoReturn:
  """Raises a line about a damaged checkpoint, and what to use in its place.

  The checkpoint is not marked: the fault may be of what reads it, and of two
  that read one alone may be allowed to write. Training marks it.
  """
  others = [str(step) for step in workdir_lib.WorkDir(workdir).steps()
            if str(step) != path.name]
  fix = (f'give another step ({", ".join(others)})' if others else
         'it is the only one there: bring it back, or train again')
  raise errors.UserError(
      f'checkpoint {path.name} of {workdir} is damaged: {problem}; {fix}')


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
