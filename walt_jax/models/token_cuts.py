"""Tokens of a row cut over devices, and attention on whole windows of them.

All token-wise work needs its own tokens alone, and a layer's constraint on the
axis `columns` cuts them. Attention needs whole windows: where the cut falls
between windows, they stay where they are; else each device takes all tokens of
a part of the heads, by an all-to-all before and one after (as Ulysses does for
a sequence, 2309.14509). Without a rule for `columns` nothing is cut, and
nothing here does anything.
"""
from flax import linen as nn
import jax

_GRID = ('batch', 'frames', 'rows')
BY_HEADS = (*_GRID, None, 'window_heads')
BY_PLACE = (*_GRID, 'columns', 'heads')
Axes = tuple[str | None, ...]


def is_cut() -> bool:
  """Whether tokens of a row are cut."""
  return nn.logical_to_mesh_axes(('columns',))[0] is not None


def attention_axes(columns: int, window_columns: int, *,
                   keeps_rows: bool = True) -> Axes:
  """Logical axes of [B, T, H, W, K] of queries, keys, values and context.

  Args:
    columns: W, of the grid.
    window_columns: Extent of a window along it.
    keeps_rows: Whether the attention reads windows of each row of the batch;
      one that takes those of all rows together cannot leave them in place.
  """
  if not is_cut() or not keeps_rows:
    return BY_HEADS
  mesh = jax.sharding.get_abstract_mesh()
  name = nn.logical_to_mesh_axes(('columns',))[0]
  parts = 1 if mesh.empty else mesh.shape[name]
  return BY_PLACE if (columns // window_columns) % parts == 0 else BY_HEADS


# Both ways a step is said twice: heads are made, and windows put back, before
# anything is sent. The partitioner would gather all tokens instead.


def to_windows(x: jax.Array, axes: Axes) -> jax.Array:
  """Queries, keys or values [B, T, H, W, K, d] where attention takes them."""
  return _constrain(_constrain(x, BY_PLACE), axes)


def to_tokens(x: jax.Array, axes: Axes) -> jax.Array:
  """The context [B, T, H, W, K, d] of `axes` where its tokens are."""
  return _constrain(_constrain(x, axes), BY_PLACE)


def shared(x: jax.Array) -> jax.Array:
  """Keys or values [B, F, S, K, d] of a text, which all tokens see.

  Without the constraint their weights would be cut as their heads are, and
  gathered for those of the tokens.
  """
  return _constrain(x, ('batch', None, None, 'heads'))


def _constrain(x: jax.Array, axes: Axes) -> jax.Array:
  return nn.with_logical_constraint(x, (*axes, None)) if is_cut() else x
