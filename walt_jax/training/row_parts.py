"""Running a function over the rows of a batch in parts, to bound its memory.

A convolutional encoder holds activations of every pixel, many times what it
is given and what it makes: those of eight clips of 17 x 512 x 896 are more
than any chip has. One row keeps a chip busy, so that parts cost no time.
"""
from collections.abc import Callable, Iterator
import math
import operator
from typing import Any

from flax import linen as nn
import jax
from jax.extend import core as jax_core
import jax.numpy as jnp

PyTree = Any
# What the rows of one part may take by the estimate below.
PART_BYTES = 2 << 30
# Memory of an encoder over its largest array in float32: 4.0 to 5.6 by XLA for
# a v5e, of one and two clips of 17 x 128 x 128 and of four images.
ARRAYS_ALIVE = 6


def map_rows(function: Callable[..., PyTree], num_shards: int,
             rows_at_once: int, *rows: PyTree) -> PyTree:
  """Returns `function(*rows)`, made of parts of the rows one after the other.

  Part i of n takes the rows i, i + n, ..: a batch that is cut over devices
  stays where it is, and each device has as many rows of a part.

  Args:
    function: Maps trees of arrays [B, ..] to one; no row may depend on others.
    num_shards: Shards of the rows.
    rows_at_once: Rows of a shard in a part: the largest number up to this
      that divides a shard's rows is taken. 0: as many as take `PART_BYTES`.
    *rows: Trees of arrays [B, ..], B a multiple of `num_shards`.
  """
  count = jax.tree.leaves(rows)[0].shape[0]
  of_shard, rest = divmod(count, num_shards)
  if rest:
    raise ValueError(
        f'{count} rows cannot be cut into {num_shards} equal shards.')
  limit = rows_at_once or rows_that_fit(function, *rows)
  size = next(size for size in range(min(limit, of_shard), 0, -1)
              if of_shard % size == 0)
  num_parts = of_shard // size
  if num_parts == 1:
    return function(*rows)

  def split(x):
    x = jnp.swapaxes(x.reshape(-1, num_parts, *x.shape[1:]), 0, 1)
    return nn.with_logical_constraint(
        x, (None, 'batch', *[None] * (x.ndim - 2)))

  def join(x):
    return jnp.swapaxes(x, 0, 1).reshape(count, *x.shape[2:])

  made = jax.lax.map(lambda part: function(*part), jax.tree.map(split, rows))
  return jax.tree.map(join, made)


def rows_that_fit(function: Callable[..., PyTree], *rows: PyTree) -> int:
  """How many rows of a shard take `PART_BYTES` by an estimate; at least 1.

  Args:
    function: Maps trees of arrays [B, ..] to one.
    *rows: Trees of arrays [B, ..], or of their shapes.
  """
  one, two = (jax.make_jaxpr(function)(*jax.tree.map(
      lambda x, count=count: jax.ShapeDtypeStruct(
          (count, *x.shape[1:]), x.dtype), rows)).jaxpr for count in (1, 2))
  # Of weights, and of what is made of them, a second row needs no more.
  largest = max(map(operator.sub, _sizes(two), _sizes(one)), default=0)
  return PART_BYTES // max(ARRAYS_ALIVE * 4 * largest, 1) or 1


def _sizes(jaxpr: jax_core.Jaxpr) -> Iterator[int]:
  """Elements of the arrays that a trace makes, in its order."""
  for equation in jaxpr.eqns:
    shapes: list[Any] = [out.aval for out in equation.outvars]
    yield from (math.prod(shape.shape) for shape in shapes)
    for inner in jax_core.jaxprs_in_params(equation.params):
      yield from _sizes(inner)
