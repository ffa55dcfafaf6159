"""The work of Pallas kernels, counted from their traced bodies.

Never a number that a kernel's author declares: products are the dot products
of the kernel's jaxpr, times its loops, times the programs of its grid, with
sizes as they are in the kernel, padding included; bytes are what its loads
and stores move, as often as they move it.
"""
from collections.abc import Iterator, Mapping
import dataclasses
import math
from typing import Any

import jax
from jax.extend import core as jax_core

from walt_jax.planning import counting
from walt_jax.planning import hlo

# One special function each; a logistic is an exponential and a division.
_SPECIAL = {'exp': 1, 'exp2': 1, 'expm1': 1, 'log': 1, 'log1p': 1, 'tanh': 1,
            'logistic': 2, 'erf': 1, 'rsqrt': 1, 'sqrt': 1, 'div': 1,
            'sin': 1, 'cos': 1, 'pow': 2}
_LOADS = ('get', 'masked_load', 'load')
_STORES = ('swap', 'masked_swap', 'store', 'addupdate')
# Read and written.
_UPDATES = ('addupdate', 'atomic_rmw', 'atomic_cas')


@dataclasses.dataclass(frozen=True)
class Work:
  """What runs on a device; a sum.

  Attributes:
    flops: Operations of products of 16-bit numbers or smaller.
    wide_flops: Operations of products of 32-bit numbers.
    exponentials: Calls of special functions.
    bytes: Bytes loaded and stored.
  """
  flops: int = 0
  wide_flops: int = 0
  exponentials: int = 0
  bytes: int = 0

  def __add__(self, other: 'Work') -> 'Work':
    return Work(*(mine + its for mine, its in zip(
        dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

  def __mul__(self, times: int) -> 'Work':
    return Work(*(times * mine for mine in dataclasses.astuple(self)))

  def at_least(self, other: 'Work') -> 'Work':
    """The larger of each."""
    return Work(*(max(mine, its) for mine, its in zip(
        dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

  @property
  def all_flops(self) -> int:
    return self.flops + self.wide_flops


@dataclasses.dataclass(frozen=True)
class Kernel:
  """One call of a kernel in a traced program.

  Attributes:
    name: Name that the call was given.
    results: Types of its results, such as 'bf16[2,128]'.
    grid: Programs along each axis.
    work: What all programs together do.
  """
  name: str
  results: tuple[str, ...]
  grid: tuple[int, ...]
  work: Work


# By name and results: the same kernel may serve several sizes.
Kernels = Mapping[tuple[str, tuple[str, ...]], Kernel]


def kernels(jaxpr: jax_core.Jaxpr) -> Kernels:
  """All kernels of a traced program.

  Args:
    jaxpr: Such as `jax.stages.Traced.jaxpr.jaxpr`.

  Raises:
    UncountedError: On a kernel without a name, or with a loop whose number of
      steps depends on data.
  """
  found: dict[tuple[str, tuple[str, ...]], Kernel] = {}
  for equation in _calls(jaxpr):
    kernel = _kernel(equation)
    key = kernel.name, kernel.results
    # Two kernels under one name: both are taken for the costlier in each way.
    if key in found:
      kernel = dataclasses.replace(
          kernel, work=kernel.work.at_least(found[key].work))
    found[key] = kernel
  return found


def kernels_of(lowered_from: jax.stages.Traced) -> Kernels:
  """All kernels of `jitted.trace(..)`."""
  return kernels(lowered_from.jaxpr.jaxpr)


# Name, types of the results, types of the operands.
CallKey = tuple[str, tuple[str, ...], tuple[str, ...]]


def calls_of(traced: jax.stages.Traced) -> dict[CallKey, tuple[Kernel, Any]]:
  """Each kernel of `jitted.trace(..)` with the call of it.

  Results alone do not tell kernels apart: attention to a text beside its own
  window has those of attention without.
  """
  found: dict[CallKey, tuple[Kernel, Any]] = {}
  for equation in _calls(traced.jaxpr.jaxpr):
    kernel = _kernel(equation)
    operands = tuple(_type(one.aval) for one in equation.invars)
    found.setdefault((kernel.name, kernel.results, operands),
                     (kernel, equation))
  return found


def _calls(jaxpr: jax_core.Jaxpr) -> Iterator[Any]:
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'pallas_call':
      yield equation
    else:
      for inner in counting.inner_jaxprs(equation.params):
        yield from _calls(inner)


def _kernel(equation: Any) -> Kernel:
  name = equation.params.get('name') or str(
      equation.params.get('name_and_src_info', '')).partition(' ')[0]
  if not name:
    raise hlo.UncountedError('A Pallas kernel has no name: give it one, to '
                             'find it in the compiled program.')
  grid = tuple(equation.params['grid_mapping'].grid)
  if not all(isinstance(size, int) for size in grid):
    raise hlo.UncountedError(
        f'The grid {grid} of the Pallas kernel {name} depends on data.')
  return Kernel(name, tuple(_type(one.aval) for one in equation.outvars), grid,
                _work(equation.params['jaxpr'], name) * math.prod(grid))


def _work(jaxpr: jax_core.Jaxpr, kernel: str) -> Work:
  """Work of one run of a kernel's body, or of a loop's."""
  total = Work()
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    inner = [_work(one, kernel)
             for one in counting.inner_jaxprs(equation.params)]
    if name == 'scan':
      total += sum(inner, Work()) * equation.params['length']
    elif name == 'while':
      raise hlo.UncountedError(
          f'A loop of the Pallas kernel {kernel} runs as often as its data '
          'say: give it a fixed number of steps.')
    elif name == 'cond':
      total += max(inner, key=dataclasses.astuple)
    elif inner:
      total += sum(inner, Work())
    else:
      total += _work_of(equation)
  return total


def _work_of(equation: Any) -> Work:
  """Work of one operation of a kernel."""
  name = equation.primitive.name
  if name == 'dot_general':
    flops = counting.dot_flops(equation)
    narrow = all(one.aval.dtype.itemsize <= 2 for one in equation.invars[:2])
    return Work(flops=flops) if narrow else Work(wide_flops=flops)
  if name in _LOADS:
    return Work(bytes=_bytes(equation.outvars[0].aval))
  if name in _STORES or name in _UPDATES:
    stored = (equation.outvars[0] if equation.outvars else equation.invars[1])
    times = 2 if name in _UPDATES else 1
    return Work(bytes=times * _bytes(stored.aval))
  if name in _SPECIAL and jax.numpy.issubdtype(
      equation.outvars[0].aval.dtype, jax.numpy.inexact):
    return Work(exponentials=_SPECIAL[name] * equation.outvars[0].aval.size)
  if any(_is_ref(one.aval) for one in equation.invars) and (
      name not in _VIEWS):
    raise hlo.UncountedError(
        f'{name} of a Pallas kernel moves data in a way that is not counted.')
  return Work()


# Of references, these move nothing.
_VIEWS = ('transform_ref', 'broadcast_ref')


def _is_ref(aval: Any) -> bool:
  return hasattr(aval, 'inner_aval')


def _bytes(aval: Any) -> int:
  return aval.size * aval.dtype.itemsize


def _type(aval: Any) -> str:
  """As `str(hlo.Shape)`: 'bf16[2,128]'."""
  dtype = jax.numpy.dtype(aval.dtype)
  kinds = dict(f='f', i='s', u='u', b='pred')
  name = ('bf16' if dtype == jax.numpy.bfloat16 else 'pred'
          if dtype.kind == 'b' else f'{kinds[dtype.kind]}{8 * dtype.itemsize}')
  return f'{name}[{",".join(map(str, aval.shape))}]'
