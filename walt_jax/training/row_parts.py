"""Running a function over the rows of a batch in parts, to bound its memory.

A convolutional encoder holds activations of every pixel, many times what it
is given and what it makes: those of eight clips of 17 x 512 x 896 are more
than any chip has. One row keeps a chip busy, so that parts cost no time.
"""
from collections.abc import Callable, Sequence
import math
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
# About what the largest array has for an element of the rows, in encoders of
# pixels: only a first guess, of how many rows to trace.
_GROWTH = 54


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
  size, function = _part(function, num_shards, of_shard, rows_at_once, rows)
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


def _part(function: Callable[..., PyTree], num_shards: int, of_shard: int,
          rows_at_once: int, rows: Sequence[PyTree]
          ) -> tuple[int, Callable[..., PyTree]]:
  """Rows of a shard in a part, and what maps such a part.

  A trace of a large encoder takes seconds. The one that tells how many rows
  fit is therefore of as many as a guess says, and where they do it is used.
  """
  def largest(limit: int) -> int:
    return next(size for size in range(min(limit, of_shard), 0, -1)
                if of_shard % size == 0)

  if rows_at_once or of_shard == 1:
    return largest(rows_at_once or 1), function
  elements = sum(math.prod(x.shape[1:]) for x in jax.tree.leaves(rows))
  guess = largest(_rows_of(_GROWTH * elements))
  part, shapes = jax.make_jaxpr(function, return_shape=True)(*jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
          (guess * num_shards, *x.shape[1:]), x.dtype), rows))
  size = largest(rows_that_fit(part.jaxpr, guess * num_shards))
  if size != guess:
    return size, function
  run = jax_core.jaxpr_as_fun(part)
  return size, lambda *args: jax.tree.unflatten(
      jax.tree.structure(shapes), run(*jax.tree.leaves(args)))


def rows_that_fit(jaxpr: jax_core.Jaxpr, num_rows: int) -> int:
  """How many rows take `PART_BYTES` by an estimate; at least 1.

  Args:
    jaxpr: Trace of a function of `num_rows` rows.
    num_rows: How many.
  """
  return _rows_of(_largest_of_rows(
      jaxpr, [True] * len(jaxpr.invars)) // num_rows)


def _rows_of(elements: int) -> int:
  """How many rows fit whose largest array has so many elements a row."""
  return PART_BYTES // max(ARRAYS_ALIVE * 4 * elements, 1) or 1


def _largest_of_rows(jaxpr: jax_core.Jaxpr, given: Sequence[bool]) -> int:
  """Elements of the largest array that a trace makes of some of its inputs.

  Of weights, and of what is made of them, further rows need no more.

  Args:
    jaxpr: The trace.
    given: For each input, whether it is one of them.
  """
  of_rows = {var for var, is_given in zip(jaxpr.invars, given, strict=True)
             if is_given}
  largest = 0
  for equation in jaxpr.eqns:
    used = [not isinstance(x, jax_core.Literal) and x in of_rows
            for x in equation.invars]
    if not any(used):
      continue
    of_rows.update(equation.outvars)
    shapes: list[Any] = [out.aval for out in equation.outvars]
    sizes = [math.prod(shape.shape) for shape in shapes]
    for first, end in _carried(equation):  # What a turn gives the next.
      used[first:end] = [True] * (end - first)
    for inner in jax_core.jaxprs_in_params(equation.params):
      # A branch, and a loop's body, have the last of its inputs.
      missing = len(inner.invars) - len(used)
      sizes.append(_largest_of_rows(
          inner, [True] * missing + used[max(-missing, 0):]))
    largest = max(largest, *sizes)
  return largest


def _carried(equation: jax_core.JaxprEqn) -> list[tuple[int, int]]:
  """Ranges of a loop's inputs that its body's results replace."""
  params, count = equation.params, len(equation.invars)
  if equation.primitive.name == 'scan':
    first = params['num_consts']
    return [(first, first + params['num_carry'])]
  if equation.primitive.name == 'while':
    return [(params['cond_nconsts'] + params['body_nconsts'], count)]
  return []
