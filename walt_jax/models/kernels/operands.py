"""What fused window attention reads, and what a module of kernels offers."""
import dataclasses
from typing import NamedTuple, Protocol

import jax

from walt_jax.models import windows


class Operands(NamedTuple):
  """The inputs of window attention; gradients have the same form.

  Keys are those of the query's window and, behind them, the text's.

  Attributes:
    query: [B, T, H, W, K, d] as projected, before the norm.
    key: Keys of the query's shape, before the norm.
    value: Values of the query's shape.
    query_scale: float32 [d], the scale of the queries' LayerNorm; None: the
      queries stay as they are.
    key_scale: float32 [d], of the keys (the text's too); None as above.
    bias: float32 [K, L, L], added to the logits of every window, or None.
    is_image: bool [B]; a row whose tokens see themselves alone: its context is
      its value. None: no such row.
    text_key: [B, F, S, K, d] before the norm; None: no text. F divides the
      number of windows of a row, of which each text serves as many.
    text_value: Values of the shape of `text_key`.
    text_mask: bool [B, F, S], true at tokens that may be seen.
  """
  query: jax.Array
  key: jax.Array
  value: jax.Array
  query_scale: jax.Array | None = None
  key_scale: jax.Array | None = None
  bias: jax.Array | None = None
  is_image: jax.Array | None = None
  text_key: jax.Array | None = None
  text_value: jax.Array | None = None
  text_mask: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What decides whether and how kernels serve a call.

  Attributes:
    grid: (T, H, W), tokens of a row.
    window: (frames, rows, columns) of a window; tiles the grid.
    num_heads: K of one device.
    head_width: d.
    text_length: S; 0 without text.
    dtype: Name of the type of queries, keys and values.
  """
  grid: windows.Window
  window: windows.Window
  num_heads: int
  head_width: int
  text_length: int
  dtype: str

  @property
  def length(self) -> int:
    """L, the tokens of a window."""
    frames, rows, columns = self.window
    return frames * rows * columns


class Kernels(Protocol):
  """A module of kernels, forward and backward."""

  def refusal(self, sizes: Sizes) -> str | None:
    """Why the kernels do not serve these sizes; None if they do."""

  def reads_grid(self, sizes: Sizes) -> bool:
    """Whether windows are read from the grid where they lie.

    If not, the tokens are cut into windows before the projections, and a
    window comes as (1, 1, L) of a grid (N, 1, L).
    """

  def forward(
      self, operands: Operands, window: windows.Window, interpret: bool,
  ) -> tuple[jax.Array, jax.Array]:
    """Computes the context and what the backward pass needs beside it.

    Args:
      operands: Those of one device.
      window: Extent of one window; tiles (T, H, W).
      interpret: Whether to interpret the kernel, on a CPU.

    Returns:
      The context [B, T, H, W, K, d] in the type of the values, and the
      logarithm of each query's sum of exponentials, in a layout of the
      kernels' own.
    """

  def backward(
      self, operands: Operands, context: jax.Array, log_sum: jax.Array,
      cotangent: jax.Array, window: windows.Window, interpret: bool,
  ) -> Operands:
    """Gradients of the operands; None for `is_image` and `text_mask`.

    Those of scales and bias are float32 sums over all windows of the device.
    """
