"""`init_from`: a new run that begins at the parameters of a finished one."""
from collections.abc import Callable
import functools
from typing import Any

import jax

from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.core import paths
from walt_jax.models import interpolate
from walt_jax.training import checkpoint_params
from walt_jax.training import stage as stage_lib
from walt_jax.training import state as train_state
from walt_jax.training import workdir as workdir_lib

PyTree = Any


def denoiser_warm_start(
    source: str, target: PyTree,
    create: Callable[[PyTree], train_state.TrainState]
) -> stage_lib.WarmStart | None:
  """Begins a denoiser at another's parameters, fitted to its grid and windows.

  The average of the longest memory is read where the source kept one.

  Args:
    source: `init_from`: a work directory or an export; '' for none.
    target: Shapes of the new denoiser's parameters.
    create: `create(params) -> TrainState` of the new run.

  Raises:
    UserError: If `source` holds no denoiser, or one that differs in more than
      grid and windows; nothing but shapes has then been read of a checkpoint.
  """
  if not source:
    return None
  root = paths.path(source)
  read: Callable[[], PyTree]
  found = workdir_lib.WorkDir(source)
  if found.is_export:
    read = lambda: exports.load_export(root)[0]
    shapes = jax.eval_shape(read)
  else:
    found.config()  # Says what is wrong with the folder.
    read = functools.partial(checkpoint_params.restore_params, root)
    shapes = checkpoint_params.params_shapes(root)
  fit = functools.partial(interpolate.fit_positions, target=target)
  try:
    jax.eval_shape(fit, shapes)
  except ValueError as e:
    raise errors.UserError(f'config key init_from is {source!r}: {e}') from e
  return stage_lib.WarmStart(read=lambda: fit(read()), create=create)
