"""Compiling for devices that are not there: memory and collectives."""
import dataclasses
import math
import re
import time
from typing import Any

import jax

from walt_jax.planning import collectives as collectives_lib

PyTree = Any
_UNITS = {'': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}
# What XLA says of a program that is too large for the memory of a device.
_NEEDED = (
    re.compile(r'Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm'),
    re.compile(r'HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM'),
)


# XLA's `exec_time_optimization_effort`, in [-1, 1]. The lowest looks less for
# fast code of each operation and assigns no tensors to on-chip memory: those
# stay in the device's, and the program itself is smaller.
DEFAULT_EFFORT = 0.0
LOWEST_EFFORT = -1.0


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What is known of one compiled program; bytes are of one device.

  Attributes:
    seconds: Time of compiling.
    needed_bytes: Bytes of arguments, results and temporaries together.
    temporary_bytes: Beside arguments and results; None where the program does
      not fit, and the compiler only tells the sum.
    collectives: What it sends; empty where it does not fit.
    error: The compiler's words where it does not fit.
    text: The program, as the compiler writes it.
  """
  seconds: float
  needed_bytes: int
  temporary_bytes: int | None
  collectives: list[collectives_lib.Collective]
  error: str | None = None
  text: str = dataclasses.field(default='', repr=False)


def compile_program(lowered: jax.stages.Lowered,
                    effort: float = DEFAULT_EFFORT) -> Compiled:
  """Compiles a program; one that does not fit is a result, not an error.

  Args:
    lowered: The program.
    effort: Effort of the compiler for speed, in [-1, 1].
  """
  began = time.perf_counter()
  # Numbers are as good as the strings that JAX's signature asks for.
  options: Any = {'exec_time_optimization_effort': effort}
  try:
    compiled = lowered.compile(compiler_options=options)
  except jax.errors.JaxRuntimeError as e:
    message = ' '.join(str(e).split())
    needed = needed_bytes(message)
    if needed is None:
      raise
    return Compiled(time.perf_counter() - began, needed, None, [], message)
  seconds = time.perf_counter() - began
  memory = compiled.memory_analysis()
  needed = (memory.argument_size_in_bytes + memory.output_size_in_bytes -
            memory.alias_size_in_bytes + memory.temp_size_in_bytes +
            memory.generated_code_size_in_bytes)
  text = compiled.as_text()
  return Compiled(
      seconds, int(needed), int(memory.temp_size_in_bytes),
      collectives_lib.collectives(text), text=text)


def needed_bytes(message: str) -> int | None:
  """Bytes that a RESOURCE_EXHAUSTED message of device memory asks for."""
  if 'RESOURCE_EXHAUSTED' not in message:
    return None
  for pattern in _NEEDED:
    match = pattern.search(message)
    if match:
      return int(float(match.group(1)) * _UNITS[match.group(2)])
  return None


def device_bytes(tree: PyTree, shardings: PyTree) -> int:
  """Bytes that one device holds of a tree of arrays or shapes."""
  sizes = jax.tree.map(
      lambda leaf, sharding: _itemsize(leaf.dtype) * math.prod(
          sharding.shard_shape(leaf.shape)), tree, shardings)
  return sum(jax.tree.leaves(sizes))


def _itemsize(dtype) -> int:
  # A random key is two words.
  return 8 if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) else (
      dtype.itemsize)
