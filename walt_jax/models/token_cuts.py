"""Tokens of a row cut over devices, and attention on whole windows of them.

In the body of a `jax.shard_map` over the axis `context` each device has its own
part of the tokens of every frame, in the order of tiles (`tile_order`). All
token-wise work needs these alone. Attention needs whole windows: those that lie
inside of a part stay where they are. Where several devices share a window, each
of them takes all of its tokens for a part of the heads, by an all-to-all among
these devices before and one after (as Ulysses does for a sequence, 2309.14509).
Without the axis nothing is cut, and nothing here does anything.
"""
from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from walt_jax.models import mesh_axes

AXIS = 'context'


def on_parts(function: Callable[..., Any]) -> Callable[..., Any]:
  """A function of whole arrays whose denoiser cuts tokens over `context`.

  All that is not cut is computed by each of these devices for itself. In a
  mesh without the axis it is the function as it is.
  """
  def run(*inputs: Any, **named: Any) -> Any:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or AXIS not in mesh.shape:
      return function(*inputs, **named)
    return jax.shard_map(
        lambda inputs, named: function(*inputs, **named), in_specs=P(),
        out_specs=P(), axis_names={AXIS}, check_vma=False)(inputs, named)

  return run


def num_parts() -> int:
  """Into how many parts the tokens here are cut; 1 where they are not."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or AXIS not in mesh.shape:
    return 1
  kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
  return mesh.shape[AXIS] if kinds[AXIS] == AxisType.Manual else 1


def own(x: jax.Array, axis: int) -> jax.Array:
  """This device's part of what all have whole, along an axis."""
  parts = num_parts()
  if parts == 1:
    return x
  size = x.shape[axis] // parts
  return jax.lax.dynamic_slice_in_dim(
      x, jax.lax.axis_index(AXIS) * size, size, axis)


def whole(x: jax.Array, axis: int) -> jax.Array:
  """All devices' parts, along an axis: the inverse of `own`."""
  if num_parts() == 1:
    return x
  return jax.lax.all_gather(x, AXIS, axis=axis, tiled=True)


def refusal(parts: int, num_tokens: int, num_heads: int,
            window_tokens: tuple[int, ...]) -> str | None:
  """Why tokens cannot be cut so; None if they can.

  Args:
    parts: Devices that share a row.
    num_tokens: Tokens of a frame.
    num_heads: Heads of these devices together.
    window_tokens: Tokens of a frame in a window, of each kind of window.
  """
  if num_tokens % parts:
    return f'does not divide the {num_tokens} tokens of a frame'
  own_tokens = num_tokens // parts
  for size in window_tokens:
    if size % own_tokens and own_tokens % size:
      return (f'gives each device {own_tokens} tokens of a frame, neither a '
              f'part nor a multiple of the {size} of a window')
    if num_heads % max(size // own_tokens, 1):
      return (f'has {size // own_tokens} devices share a window, which do not '
              f'divide {num_heads} heads')
  return None


@dataclasses.dataclass(frozen=True)
class Exchange:
  """An exchange of tokens for heads among the devices that share a window.

  Attributes:
    size: Number of these devices, neighbours along the axis.
  """
  size: int

  def grid(self, grid: tuple[int, int, int]) -> tuple[int, int, int]:
    """Grid (T, 1, C) of a part as it is after the exchange: its devices'
    parts, frames, columns."""
    return self.size, grid[0], grid[2]

  def window(self, window: tuple[int, int, int]) -> tuple[int, int, int]:
    """Extent of a window (wt, 1, L) in that grid."""
    return self.size, window[0], window[2] // self.size

  def pieces(self, x: jax.Array, axis: int) -> jax.Array:
    """[.., K d, ..] of all heads, such as weights, to [size, .., K d / size,
    ..]: the part of each device of the exchange.

    Products with weights in such pieces write what an exchange sends, and read
    what it brings; to cut queries themselves would take passes over them.
    """
    axis %= x.ndim
    before, after = x.shape[:axis], x.shape[axis + 1:]
    # Heads of a device of the axis `tensor` stay on it.
    x = jnp.moveaxis(
        x.reshape(*before, _head_parts(), self.size, -1, *after), axis + 1, 0)
    return x.reshape(self.size, *before, -1, *after)

  def own_heads(self, x: jax.Array, axis: int) -> jax.Array:
    """Those of all heads along an axis that this device takes."""
    return jax.lax.dynamic_index_in_dim(
        self.pieces(x, axis), jax.lax.axis_index(AXIS) % self.size,
        keepdims=False)

  def in_order(self, bias: jax.Array, frames: int) -> jax.Array:
    """[K, L, L] of tokens ordered by frames, as `to_windows` orders them: by
    devices' parts, frames, columns."""
    heads, length, _ = bias.shape
    place = (frames, self.size, length // (frames * self.size))
    return bias.reshape(heads, *place, *place).transpose(
        0, 2, 1, 3, 5, 4, 6).reshape(bias.shape)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Sends the i-th piece of [B, size, T, C, K / size, d] to the i-th device.

    Of own tokens it makes those of windows, with the devices' parts of them in
    place of the pieces of heads; of windows own tokens, in pieces.
    """
    shape = x.shape
    groups = [list(range(first, first + self.size))
              for first in range(0, num_parts(), self.size)]
    mesh = jax.sharding.get_abstract_mesh()
    batch, heads = (
        mesh_axes.cut(mesh, axis, x.shape[place])
        for axis, place in (('batch', 0), ('heads', 4)))
    # A TPU would pad each head of [K, d] to 128 lanes.
    x = x.reshape(*shape[:4], -1)
    cut = P(batch, None, None, None, heads)
    # The partitioner would gather the rows of all devices first.
    return jax.shard_map(
        lambda x: jax.lax.all_to_all(
            x, AXIS, 1, 1, tiled=True, axis_index_groups=groups),
        in_specs=cut, out_specs=cut, axis_names=mesh_axes.free(mesh),
        check_vma=False)(x).reshape(shape)


def exchange(columns: int, window_columns: int) -> Exchange | None:
  """What makes windows whole; None where each device has whole ones.

  Args:
    columns: C, tokens that a device has of a frame.
    window_columns: Tokens of a frame in a window.
  """
  if num_parts() == 1 or columns % window_columns == 0:
    return None
  return Exchange(window_columns // columns)


def _head_parts() -> int:
  """Into how many parts heads are cut beside this."""
  return mesh_axes.num_parts(jax.sharding.get_abstract_mesh(), 'heads')
