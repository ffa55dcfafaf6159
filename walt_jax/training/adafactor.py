"""Adafactor on each layer's own matrices (Shazeer and Stern, 1804.04235).

optax's version looks at array axes: it leaves 4-D stacked kernels unfactored
and clips all layers of a stack as one. Here the partition rules say which axes
are layers, inputs and outputs. Moments drop the reduced axes and so do their
specs: `.../kernel/row` and `.../kernel/column`.
"""
import math
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from walt_jax.parallel import rules as partition

PyTree = Any


@struct.dataclass
class AdafactorState:
  """Second moments.

  Attributes:
    count: int32 [], updates so far.
    moments: Tree of the parameters, each leaf a dict: `row` and `column` of a
      factored matrix, else `full`.
  """
  count: jax.Array
  moments: PyTree


def scale_by_adafactor(
    rules: partition.Rules,
    *,
    min_factored: int = 128,
    decay_power: float = 0.8,
    max_decay: float = 0.999,
    clip_threshold: float = 1.0,
    eps: float = 1e-30,
) -> optax.GradientTransformation:
  """Divides gradients by the root of their factored second moment.

  Args:
    rules: Partition rules of the parameters.
    min_factored: Matrices with a smaller side keep the full moment.
    decay_power: The moment's decay at update n is 1 - n^-decay_power.
    max_decay: Upper bound of that decay (Zhai et al., 2106.04560).
    clip_threshold: Bound of the root mean square of each layer's update.
    eps: Added to squared gradients.
  """
  def axes(name, shape):
    """(axes that reduce to `row`, to `column`), or None, and own axes."""
    front, rows, columns = partition.matrix_axes(name, len(shape), rules)
    own = tuple(range(front, len(shape)))
    row_axes, column_axes = own[:rows], own[rows:]
    sides = [math.prod(shape[i] for i in side)
             for side in (row_axes, column_axes)]
    if not columns or min(sides) < min_factored:
      return None, own
    return (row_axes, column_axes), own

  def init(params):
    def moments(path, leaf):
      factored, _ = axes(_name(path), leaf.shape)
      if factored is None:
        return {partition.FULL_MOMENT: jnp.zeros(leaf.shape, jnp.float32)}
      row_axes, column_axes = factored
      return {
          partition.ROW_MOMENT: _zeros_without(leaf, column_axes),
          partition.COLUMN_MOMENT: _zeros_without(leaf, row_axes)}
    return AdafactorState(
        count=jnp.zeros((), jnp.int32),
        moments=jax.tree_util.tree_map_with_path(moments, params))

  def update(grads, state, params=None):
    del params
    count = state.count + 1
    decay = jnp.minimum(
        1.0 - count.astype(jnp.float32) ** -decay_power, max_decay)

    def leaf_update(path, grad, moment):
      factored, own = axes(_name(path), grad.shape)
      grad = grad.astype(jnp.float32)
      square = jnp.square(grad) + eps
      blend = lambda old, new: decay * old + (1.0 - decay) * new
      if factored is None:
        full = blend(moment[partition.FULL_MOMENT], square)
        moment = {partition.FULL_MOMENT: full}
        scaled = grad * jax.lax.rsqrt(full)
      else:
        row_axes, column_axes = factored
        row = blend(moment[partition.ROW_MOMENT],
                    square.mean(column_axes))
        column = blend(moment[partition.COLUMN_MOMENT],
                       square.mean(row_axes))
        moment = {partition.ROW_MOMENT: row, partition.COLUMN_MOMENT: column}
        # Axes of the inputs keep their place in `row`.
        row_factor = jax.lax.rsqrt(
            row / row.mean(row_axes, keepdims=True))
        scaled = (grad * jnp.expand_dims(row_factor, column_axes)
                  * jnp.expand_dims(jax.lax.rsqrt(column), row_axes))
      size = jnp.sqrt(jnp.mean(jnp.square(scaled), own, keepdims=True))
      return scaled / jnp.maximum(1.0, size / clip_threshold), moment

    leaves, tree = jax.tree_util.tree_flatten_with_path(grads)
    pairs = [
        leaf_update(path, grad, moment) for (path, grad), moment in zip(
            leaves, tree.flatten_up_to(state.moments), strict=True)]
    updates, moments = zip(*pairs, strict=True)
    return tree.unflatten(updates), AdafactorState(
        count=count, moments=tree.unflatten(moments))

  return optax.GradientTransformation(init, update)


def scale_by_parameter_size(
    rules: partition.Rules, *, min_scale: float = 1e-3
) -> optax.GradientTransformation:
  """Multiplies each layer's update by the root mean square of its weights."""
  def update(updates, state, params):
    def scale(path, step, leaf):
      front, rows, columns = partition.matrix_axes(
          _name(path), leaf.ndim, rules)
      del rows, columns
      own = tuple(range(front, leaf.ndim))
      size = jnp.sqrt(jnp.mean(jnp.square(leaf), own, keepdims=True))
      return step * jnp.maximum(size, min_scale)
    return jax.tree_util.tree_map_with_path(scale, updates, params), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _name(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')


def _zeros_without(leaf: jax.Array, dropped: tuple[int, ...]) -> jax.Array:
  return jnp.zeros(
      [size for i, size in enumerate(leaf.shape) if i not in dropped],
      jnp.float32)
