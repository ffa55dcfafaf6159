"""Values of a denoiser that are the same at every step of a sample.

Bias tables of windows and keys and values of the text depend on parameters
and conditions alone. `prepared.prepare` computes them once and keeps them
beside the parameters, as variables of a collection of their own. A module that
is applied with them takes them from there, and else computes them.
"""
from collections.abc import Callable

from flax import linen as nn
import jax

COLLECTION = 'constants'


def once(module: nn.Module, name: str,
         compute: Callable[[], jax.Array]) -> jax.Array:
  """A constant of a sample: as it was kept, or computed here and now.

  Args:
    module: Bound module, to which the name belongs.
    name: Name of the constant.
    compute: Gives it; reads parameters and conditions alone.
  """
  if module.has_variable(COLLECTION, name):
    return module.get_variable(COLLECTION, name)
  value = compute()
  if module.is_mutable_collection(COLLECTION) and (
      not module.is_initializing()):
    module.put_variable(COLLECTION, name, value)
  return value
