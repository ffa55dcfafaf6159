"""Muon on each layer's own matrices (Jordan et al. 2024).

Momentum is replaced by the nearest matrix with equal singular values, so that
a layer learns in all directions at once and not in the few of its largest
gradients. On moving digits it needs about half of AdamW's steps, each of them
dearer (docs/measurements/training.md).

Partition rules say which axes of a leaf are layers, inputs and outputs.
"""
import math
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from walt_jax.core import errors
from walt_jax.parallel import rules as partition

PyTree = Any
# The odd polynomial of degree five that grows fastest at 0: it brings singular
# values above 0.01 to about 1 (0.7 .. 1.2) in five steps.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_NUM_STEPS = 5
_MIN_SIDE = 16  # Of smaller ones (AdaLN-LoRA) all directions are in use anyway.
# Root mean square of Adam's updates, to share its learning rate (2502.16982).
_UPDATE_RMS = 0.2


@struct.dataclass
class MuonState:
  """The running mean of gradients, as the parameters."""
  momentum: PyTree


def orthogonalize(x: jax.Array, num_steps: int = _NUM_STEPS) -> jax.Array:
  """Brings the singular values of matrices [.., m, n] to about 1.

  Newton-Schulz iterations: products alone, no decomposition.
  """
  if x.shape[-2] > x.shape[-1]:
    return orthogonalize(x.mT, num_steps).mT
  x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-8)
  a, b, c = _QUINTIC
  for _ in range(num_steps):
    gram = x @ x.mT
    x = a * x + (b * gram + c * gram @ gram) @ x
  return x


def is_hidden(params: PyTree, rules: partition.Rules) -> PyTree:
  """True for the leaves that Muon is for: large matrices of the layers.

  First and last projections, embeddings and vectors are better left to Adam.

  Raises:
    UserError: If there are none.
  """
  def leaf_is(path, leaf):
    front, rows, columns = _axes(path, leaf, rules)
    sides = _sides(leaf.shape, front, rows)
    return bool(front and columns) and min(sides) >= _MIN_SIDE
  found = jax.tree_util.tree_map_with_path(leaf_is, params)
  if not any(jax.tree.leaves(found)):
    raise errors.UserError(
        'optimizer.name=muon is for stacked transformer layers, which this '
        'model does not have; use adamw')
  return found


def scale_by_muon(
    rules: partition.Rules, scale: float = 1.0, decay: float = 0.95
) -> optax.GradientTransformation:
  """Replaces gradients by their orthogonalized Nesterov momentum.

  Args:
    rules: Partition rules of the parameters, all of them matrices.
    scale: Scale of an update; at 1 it has the root mean square of Adam's.
    decay: Decay of the momentum.
  """
  def direction(path, momentum, gradient):
    front, rows, _ = _axes(path, gradient, rules)
    sides = _sides(gradient.shape, front, rows)
    ahead = decay * momentum + (1 - decay) * gradient
    ahead = ahead.reshape(*gradient.shape[:front], *sides)
    size = scale * _UPDATE_RMS * math.sqrt(max(sides))
    return (size * orthogonalize(ahead)).reshape(gradient.shape)

  def init(params):
    return MuonState(jax.tree.map(jnp.zeros_like, params))

  def update(updates, state, params=None):
    del params
    momentum = jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new,
        state.momentum, updates)
    updates = jax.tree_util.tree_map_with_path(direction, momentum, updates)
    return updates, MuonState(momentum)

  return optax.GradientTransformation(init, update)


def _axes(path, leaf, rules) -> tuple[int, int, int]:
  name = jax.tree_util.keystr(path, simple=True, separator='/')
  return partition.matrix_axes(name, leaf.ndim, rules)


def _sides(shape, front: int, rows: int) -> tuple[int, int]:
  return (math.prod(shape[front:front + rows]),
          math.prod(shape[front + rows:]))
