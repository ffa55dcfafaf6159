"""What Pallas kernels cost on a TPU: their bundles, or their bytes.

XLA gives a Mosaic kernel no estimate. A kernel takes the longer of the
bundles of its compiled body, each as often as it runs, with a start of every
step of the grid, and the bytes that its block specs move over the memory's
speed. Bundles are static: what a core waits for is not in them, nor which
branches are skipped.
"""
from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import jax
from jax import export
from jax.extend import core as jax_core
import jax.numpy as jnp
import numpy as np

from walt_jax.planning import bundles
from walt_jax.planning import counting
from walt_jax.planning import hlo
from walt_jax.planning import pallas_kernels
from walt_jax.planning import topology

STEP_SECONDS = .35e-6  # Of each step of a grid: its transfers' start.
Key = pallas_kernels.CallKey


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one call of a kernel costs on one device.

  Attributes:
    name: Name of the kernel.
    seconds: Time.
    bytes: Bytes to and from the device's memory, by the block specs.
    flops: Operations of its products.
    how: What the time was taken from.
  """
  name: str
  seconds: float
  bytes: int
  flops: int
  how: str


Costs = Mapping[Key, Cost]


def key_of(computation: hlo.Computation, one: hlo.Instruction) -> Key:
  """By which a kernel of a compiled program is found: its name, the types of
  its results and of its operands."""
  path = one.op_name.split('/')
  name = (path[-2] if path[-1] == 'pallas_call' and len(path) > 1
          else one.name.partition('.')[0])
  return name, tuple(map(str, one.shapes)), tuple(
      str(shape) for operand in one.operands
      for shape in computation.by_name[operand].shapes)


def costs(traced: jax.stages.Traced, place: topology.Slice) -> Costs:
  """Costs of all kernels of a traced program.

  Compiles each of them once more, alone, in another process.

  Args:
    traced: The program.
    place: What it is compiled for.

  Raises:
    UncountedError: On a kernel whose loops or transfers are not known.
  """
  calls = pallas_kernels.calls_of(traced)
  if not calls:
    return {}
  loops = bundles.compiled(
      [(kernel.name, _alone(kernel.name, call))
       for kernel, call in calls.values()],
      place.name)
  return {key: _cost(kernel, call, loop, place.chip)
          for (key, (kernel, call)), loop in zip(
              calls.items(), loops, strict=True)}


def _alone(name: str, call: Any) -> export.Exported:
  """The program of one kernel, by whose name its dump is found."""
  def program(*inputs):
    return call.primitive.bind(*inputs, **call.params)

  program.__name__ = name
  shapes = [jax.ShapeDtypeStruct(one.aval.shape, one.aval.dtype)
            for one in call.invars]
  return export.export(jax.jit(program), platforms=['tpu'])(*shapes)


def _cost(kernel: pallas_kernels.Kernel, call: Any, body: bundles.Loop,
          chip: topology.Chip) -> Cost:
  steps = _steps(call, chip.num_cores)
  cycles = total_bundles(body, call.params['jaxpr'], steps, kernel.name)
  busy = cycles / chip.clock + STEP_SECONDS * steps
  moved = block_bytes(call)
  memory = moved * chip.num_devices / chip.hbm_bandwidth
  return Cost(kernel.name, max(busy, memory), moved, kernel.work.all_flops,
              'static bundles and steps' if busy > memory else
              'bytes of its blocks')


def _steps(call: Any, num_cores: int) -> int:
  """Steps of the grid that one core runs: a parallel axis is shared."""
  grid = call.params['grid_mapping'].grid
  options = call.params['compiler_params']
  semantics = getattr(options, 'dimension_semantics', None) or ()
  shared = next((axis for axis, kind in enumerate(semantics)
                 if 'parallel' in str(kind).lower()
                 and grid[axis] % num_cores == 0), None)
  steps = math.prod(grid)
  return steps if shared is None else steps // num_cores


def total_bundles(body: bundles.Loop, jaxpr: jax_core.Jaxpr, steps: int,
                  name: str) -> int:
  """Bundles of one call: the loop over the grid is the first one.

  Args:
    body: Bundles of the kernel.
    jaxpr: Its traced body, whose loops say how often they turn.
    steps: Steps of the grid on one core.
    name: Name of the kernel.

  Raises:
    UncountedError: If a compiled loop is none of the trace.
  """
  trips = _trips(jaxpr)
  if steps == 1:
    return _bundles(body, trips, name)
  if len(body.loops) != 1:
    raise hlo.UncountedError(
        f'The compiled kernel {name} has {len(body.loops)} loops where one '
        'over its grid was expected.')
  return body.count + steps * _bundles(body.loops[0], trips, name)


@dataclasses.dataclass(frozen=True)
class _Trips:
  """Loops of a traced body: how often each turns, and the loops inside."""
  turns: int
  loops: tuple['_Trips', ...]


def _trips(jaxpr: jax_core.Jaxpr) -> tuple[_Trips, ...]:
  found: list[_Trips] = []
  for equation in jaxpr.eqns:
    inner = [loop for part in counting.inner_jaxprs(equation.params)
             for loop in _trips(part)]
    if equation.primitive.name == 'scan':
      turns = equation.params['length'] // equation.params['unroll']
      if turns > 1:
        found.append(_Trips(turns, tuple(inner)))
        continue
    elif equation.primitive.name == 'while':
      raise hlo.UncountedError(
          'A loop of a kernel runs as often as its data say: give it a fixed '
          'number of steps.')
    found += inner
  return tuple(found)


def _bundles(body: bundles.Loop, trips: tuple[_Trips, ...], name: str) -> int:
  """Bundles of a body. Where the compiler unrolled some loops of the trace, a
  loop is taken to be the longest of them."""
  if len(body.loops) > len(trips):
    raise hlo.UncountedError(
        f'The compiled kernel {name} has a loop that its trace does not: how '
        'often it turns is not known.')
  if len(body.loops) < len(trips):
    trips = (max(trips, key=lambda one: one.turns),) * len(body.loops)
  return body.count + sum(
      trip.turns * _bundles(loop, trip.loops, name)
      for loop, trip in zip(body.loops, trips, strict=True))


def block_bytes(call: Any) -> int:
  """Bytes that the block specs move: a block that stays is not moved again.

  Raises:
    UncountedError: On an operand that the kernel moves by itself.
  """
  mapping = call.params['grid_mapping']
  grid = mapping.grid
  indices = [jnp.asarray(axis.reshape(-1)) for axis in np.indices(grid)]
  total = 0
  for block in mapping.block_mappings:
    aval = block.transformed_block_aval
    if 'any' in str(aval.memory_space).lower():
      raise hlo.UncountedError(
          f'{block.origin} of a Pallas kernel lies where the kernel moves it '
          'by itself: its bytes are not known.')
    size = math.prod(aval.shape) * jnp.dtype(aval.dtype).itemsize
    total += size * _moves(block.index_map_jaxpr, indices)
  return total


def _moves(index_map: jax_core.ClosedJaxpr, indices: list[jax.Array]) -> int:
  """How often a block is another one than that of the step before."""
  jaxpr = index_map.jaxpr
  extra = jaxpr.invars[len(indices):]
  read = {id(one) for equation in jaxpr.eqns for one in equation.invars}
  steps = len(indices[0]) if indices else 1
  if any(id(one) in read for one in extra):
    return steps  # It depends on data.
  found = jax.vmap(lambda *axes: jax.core.eval_jaxpr(
      jaxpr, index_map.consts, *axes, *extra))(*indices) if indices else []
  table = np.stack([np.asarray(one) for one in found], axis=1) if found else (
      np.zeros((steps, 0)))
  return 1 + int(np.any(table[1:] != table[:-1], axis=1).sum())
