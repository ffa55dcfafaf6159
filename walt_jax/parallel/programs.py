"""Functions compiled for the devices that their arguments are on."""
from collections.abc import Callable
import time
from typing import Any

import jax

from walt_jax.parallel import compiler_options


class Program:
  """A function compiled once a shape, which knows how long that took.

  Attributes:
    compile_seconds: Time of all compilations so far.
  """

  def __init__(self, function: Callable):
    """Compiles nothing yet."""
    self._jitted = jax.jit(function)
    self._compiled: dict[Any, Callable] = {}
    self.compile_seconds = 0.0

  def trace(self, *arguments) -> jax.stages.Traced:
    """Traces the function for arrays or shapes; a call need not do so again."""
    return self._jitted.trace(*arguments)

  def __call__(self, *arguments):
    """Calls the function."""
    leaves, tree = jax.tree.flatten(arguments)
    shapes = tree, tuple(
        (leaf.shape, str(leaf.dtype), getattr(leaf, 'sharding', None))
        for leaf in leaves)
    if shapes not in self._compiled:
      start = time.perf_counter()
      self._compiled[shapes] = self._jitted.lower(*arguments).compile(
          compiler_options=compiler_options.of(_platform(leaves)))
      self.compile_seconds += time.perf_counter() - start
    return self._compiled[shapes](*arguments)


def _platform(leaves: list[Any]) -> str:
  """Where JAX runs a program of these arguments.

  Arrays of the host go to the default device.
  """
  for leaf in leaves:
    if isinstance(leaf, jax.Array):
      return next(iter(leaf.devices())).platform
  return jax.device_put(0).device.platform
