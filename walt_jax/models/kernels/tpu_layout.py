"""How window attention is cut into grid steps of a TPU kernel.

The grid is (parts, groups, rows of a part, windows): a group of heads keeps
its bias in VMEM while all windows pass, and parts are what the cores of a chip
share.

Tokens come as [.., K d] lanes, as the projections write them. Where the lanes
of no group that fits are whole tiles of 128, a step reads all lanes, and
writes the tiles that its group touches to a place of their own; the parts are
joined afterwards. Several groups read lanes that are filled up with zeros to
whole tiles; all heads as one group read them as they are.
"""
from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Any

import jax
from jax import lax
from jax.experimental import pallas as pl
import jax.numpy as jnp

from walt_jax.models import windows

LANES = 128
SUBLANES = 8
# Of the 64 MiB of a v5p core; v5e and v6e have 128.
VMEM_LIMIT = 60 * 2**20
# The most queries whose logits are computed at once, in the forward and in the
# backward pass. A block has the latency of its products and sums but once.
_QUERY_BLOCKS = (640, 512)


def merged(
    grid: windows.Window, window: windows.Window
) -> tuple[windows.Window, windows.Window]:
  """The same windows of a grid whose whole rows, or frames, are one axis."""
  (frames, rows, columns), (wt, wh, ww) = grid, window
  if ww == columns:
    rows, columns, wh, ww = 1, rows * columns, 1, wh * ww
  if ww == columns:
    frames, columns, wt, ww = 1, frames * columns, 1, wt * ww
  return (frames, rows, columns), (wt, wh, ww)


def query_block(length: int, is_backward: bool) -> int:
  """Queries of a window whose logits are computed at once: whole tiles."""
  blocks = -(-length // _QUERY_BLOCKS[is_backward])
  return -(-length // (blocks * LANES)) * LANES


def _whole_tiles(lanes: int) -> int:
  return -(-lanes // LANES) * LANES


@dataclasses.dataclass(frozen=True)
class Plan:
  """The cut of one call.

  Attributes:
    batch: B.
    grid: (T, H, W), see `merged`.
    window: Extent of a window in that grid.
    num_heads: K of this device.
    width: d.
    has_bias: Whether there is a bias.
    text_length: S, 0 without text.
    num_texts: F.
    itemsize: Bytes of a query's number.
    is_backward: Whether it is the call for gradients, which holds more.
  """
  batch: int
  grid: windows.Window
  window: windows.Window
  num_heads: int
  width: int
  has_bias: bool
  text_length: int
  num_texts: int
  itemsize: int
  is_backward: bool

  @property
  def length(self) -> int:
    """L."""
    return math.prod(self.window)

  @property
  def num_windows(self) -> int:
    """N, windows of a row."""
    return math.prod(self.grid) // self.length

  @property
  def parts(self) -> int:
    return 2 if self.batch % 2 == 0 else 1

  @property
  def steps(self) -> tuple[int, int, int, int]:
    """The grid of the kernel."""
    return (self.parts, self.num_heads // self.group,
            self.batch // self.parts, self.num_windows)

  @property
  def lanes(self) -> int:
    """K d, filled up to whole tiles where several groups read them."""
    lanes = self.num_heads * self.width
    return lanes if self.group == self.num_heads else _whole_tiles(lanes)

  @functools.cached_property
  def group(self) -> int:
    """Heads of a grid step; 0 if none fit.

    The most that fit; first among those whose lanes are whole tiles.
    """
    fitting = [
        heads for heads in range(1, self.num_heads + 1)
        if self.num_heads % heads == 0
        and self._vmem_bytes(heads) <= VMEM_LIMIT]
    return max(fitting, default=0,
               key=lambda heads: (self._is_aligned(heads), heads))

  @property
  def is_aligned(self) -> bool:
    """Whether the lanes of a group are whole tiles, or all lanes."""
    return self._is_aligned(self.group)

  def _is_aligned(self, heads: int) -> bool:
    return heads == self.num_heads or heads * self.width % LANES == 0

  @property
  def span(self) -> int:
    """Lanes of the tiles that a group touches; all lanes of all heads."""
    return self._span(self.group)

  def _span(self, heads: int) -> int:
    lanes = heads * self.width
    if heads == self.num_heads:
      return lanes
    return LANES * max(
        -(-(first + lanes) // LANES) - first // LANES
        for first in range(0, self.num_heads * self.width, lanes))

  def first_lane(self, group: jax.Array) -> jax.Array | int:
    """The first lane of those tiles, in the block that a step reads."""
    if self.is_aligned:
      return 0
    tile = lax.div(group * (self.group * self.width), LANES)
    return jnp.minimum(tile, (self.lanes - self.span) // LANES) * LANES

  def first_row(self, group: jax.Array) -> jax.Array | int:
    """The lane of the group's first head, counted from there."""
    if self.is_aligned:
      return 0
    return group * (self.group * self.width) - self.first_lane(group)

  def scratch(self) -> dict[str, tuple[int, int]]:
    """Shapes of what a step keeps transposed, float32, by name."""
    tokens: tuple[str, ...] = ('at_query', 'at_key', 'at_value')
    texts: tuple[str, ...] = ('at_text_key', 'at_text_value')
    if self.is_backward:
      tokens += ('at_cotangent', 'along')
      texts += ('sum_text_key', 'sum_text_value')
    shapes = dict.fromkeys(tokens, (self.span, self.length))
    if self.text_length:
      shapes |= dict.fromkeys(texts, (self.span, self.text_length))
    return shapes

  def _vmem_bytes(self, heads: int) -> int:
    """An estimate of what a step with so many heads holds."""
    up = _whole_tiles
    read = up(heads * self.width if self._is_aligned(heads)
              else self.num_heads * self.width)
    span, length, text = up(self._span(heads)), self.length, self.text_length
    if self.is_backward:
      blocks = length * (5 * read + 3 * span) + text * 2 * (read + span)
      turned = span * (5 * up(length) + (4 * up(text) if text else 0))
    else:
      blocks = length * (3 * read + span) + text * 2 * read
      turned = span * (3 * up(length) + (2 * up(text) if text else 0))
    # In the backward pass its gradient too.
    bias = heads * length * up(length) if self.has_bias else 0
    logits = (length + text) * query_block(length, self.is_backward)
    head = LANES * up(length)
    return 2 * blocks * self.itemsize + 4 * (
        (1 + self.is_backward) * bias + turned + 6 * logits + 12 * head)

  def cut(self, x: jax.Array) -> jax.Array:
    """[B, T, H, W, K, d] of tokens as the kernels read it, lanes in one."""
    return self.filled(x.reshape(self.batch, *self.grid, -1))

  def filled(self, x: jax.Array) -> jax.Array:
    """[.., K d] with zeros behind it, up to whole tiles."""
    missing = self.lanes - x.shape[-1]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]
                   ) if missing else x

  def joined(self, x: jax.Array) -> jax.Array:
    """[.., K d] of what steps wrote: the inverse of their cut."""
    if self.is_aligned:
      return x
    parts = []
    for group in range(self.steps[1]):
      first = group * self.group * self.width
      start = min(first // LANES, (self.lanes - self.span) // LANES) * LANES
      start = group * self.span + first - start
      parts.append(x[..., start:start + self.group * self.width])
    return jnp.concatenate(parts, -1)

  def tokens(self, written: bool = False) -> pl.BlockSpec:
    """A window of a group, of what `cut` gives or `joined` takes."""
    (_, rows, columns), (wt, wh, ww) = self.grid, self.window
    down, across = rows // wh, columns // ww

    def index(part, group, row, window, _):
      place = (lax.div(window, down * across),
               lax.rem(lax.div(window, across), down),
               lax.rem(window, across))
      return (part * self.steps[2] + row, *place,
              group if lanes < self.lanes or written else 0)

    lanes = self._block_lanes(written)
    return pl.BlockSpec((None, wt, wh, ww, lanes), index)

  def _block_lanes(self, written: bool) -> int:
    return self.span if self.is_aligned or written else self.lanes

  def text(self, written: bool = False) -> pl.BlockSpec:
    """A group of a window's text [B, F, S, K d]."""
    lanes = self._block_lanes(written)
    return pl.BlockSpec(
        (None, None, self.text_length, lanes), self._text_index(
            lanes < self.lanes or written))

  def text_mask(self) -> pl.BlockSpec:
    """That text's mask [B, F, S, 128], the same in all lanes."""
    return pl.BlockSpec(
        (None, None, self.text_length, LANES), self._text_index(False))

  def _text_index(self, by_group: bool) -> Callable[..., Any]:
    windows_each = self.num_windows // self.num_texts

    def index(part, group, row, window, _):
      return (part * self.steps[2] + row, lax.div(window, windows_each), 0,
              group if by_group else 0)
    return index

  def bias(self) -> pl.BlockSpec:
    """A group of [K, L, L], keys before queries."""
    return pl.BlockSpec(
        (self.group, self.length, self.length),
        lambda part, group, row, window, _: (group, 0, 0),
        pipeline_mode=pl.Buffered(1))

  def scale(self) -> pl.BlockSpec:
    """All of [d, 1]."""
    return pl.BlockSpec((self.width, 1), lambda *_: (0, 0))

  def log_sum(self) -> pl.BlockSpec:
    """A window of a group of [B, N, K / group, group, 1, L]."""
    return pl.BlockSpec(
        (None, None, None, self.group, 1, self.length),
        lambda part, group, row, window, _: (
            part * self.steps[2] + row, window, group, 0, 0, 0))

  def shared(self, *block: int) -> pl.BlockSpec:
    """What all windows of a part and a group add to: [parts, groups, ..]."""
    return pl.BlockSpec(
        (None, None, *block),
        lambda part, group, row, window, _: (
            part, group, *(0,) * len(block)),
        pipeline_mode=pl.Buffered(1))
