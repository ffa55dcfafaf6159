"""Which rows are given an estimate of x_0, and the pass that makes it.

Rows are chosen inside groups of neighbours: as many of each group go through
the first pass as are needed, a number that is known when the program is
compiled. A group's choice depends on its own rows' keys alone, so that it is
the same on every mesh.
"""
from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Groups:
  """How many rows of each group are given an estimate.

  Attributes:
    probability: Expected share p of the rows, in (0, 1].
    size: Rows of a group, g; 1: every row draws for itself. The last group of
      a batch may have fewer.
    in_shards: Whether every shard of the batch holds whole groups. Then only
      the chosen rows go through the first pass, else all.
  """
  probability: float
  size: int = 1
  in_shards: bool = False

  @property
  def chosen(self) -> int:
    """Rows chosen of a group, ceil(p g)."""
    # Not one more where p g is a whole number but for its rounding.
    return math.ceil(round(self.probability * self.size, 9))

  @property
  def share_passed(self) -> float:
    """Share of the rows that go through the first pass."""
    return self.chosen / self.size if self.in_shards else 1.0

  def estimate(
      self, first_pass: Callable[[PyTree], jax.Array], rows: PyTree,
      keys: jax.Array, uniform: jax.Array) -> jax.Array:
    """Estimates of the rows that are given one, zeros for the others.

    Args:
      first_pass: Maps some of the rows to their estimates.
      rows: Arrays [B, ...].
      keys: Random keys [B] for this choice; a group takes that of its first
        row.
      uniform: [B] in [0, 1), the rows' own draws.

    Returns:
      [B, ...], a row of which depends on its own row of `rows` alone.
    """
    # The surplus of the chosen is left out at random.
    given = uniform < self.probability * self.size / self.chosen
    if self.chosen == self.size:
      return _only(given, first_pass(rows))
    num_rows = keys.shape[0]
    order = jax.vmap(lambda key: jax.random.permutation(key, self.size))(
        keys[::self.size])
    # Where each row stands in the order of its group.
    place = jnp.argsort(order, axis=1)
    given &= (place < self.chosen).reshape(-1)[:num_rows]
    if not self.in_shards:
      return _only(given, first_pass(rows))
    take = jax.vmap(lambda x, index: x[index])
    in_groups = lambda x, size: x.reshape(-1, size, *x.shape[1:])
    passed = jax.tree.map(
        lambda x: take(in_groups(x, self.size), order[:, :self.chosen]
                       ).reshape(-1, *x.shape[1:]), rows)
    found = take(in_groups(first_pass(passed), self.chosen),
                 jnp.minimum(place, self.chosen - 1))
    return _only(given, found.reshape(num_rows, *found.shape[2:]))


def _only(given: jax.Array, x: jax.Array) -> jax.Array:
  return jnp.where(given.reshape(-1, *(1,) * (x.ndim - 1)), x, 0.)
