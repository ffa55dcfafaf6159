"""Cross-attention to the text and to the query's own window (section 4.2)."""
from flax import linen as nn
import jax
import jax.numpy as jnp

from walt_jax.models import attention
from walt_jax.models import windows


class CrossAttention(attention.AttentionProjections):
  """Keys and values are concat(tokens of the query's window, text).

  Attributes:
    window: Extent of one window, in tokens.
  """
  window: windows.Window = (1, 1, 1)

  def __call__(
      self, x: jax.Array, text: jax.Array, text_mask: jax.Array) -> jax.Array:
    """Maps tokens [B, T, H, W, D] to [B, T, H, W, D].

    Args:
      x: Tokens.
      text: [B, F, S, D], projected to the width; with F = T (a text of its
        own for each frame) a window must not span frames.
      text_mask: bool [B, F, S], true at real tokens.
    """
    _, frames, rows, columns, _ = x.shape
    grid = (frames, rows, columns)
    num_texts = text.shape[1]
    if num_texts > 1 and (num_texts != grid[0] or self.window[0] != 1):
      raise ValueError(
          f'{num_texts} texts a row need {num_texts} frames and windows of '
          f'one frame; got {grid[0]} frames and window {self.window}.')
    tokens = windows.partition_windows(x, self.window)
    tokens = nn.with_logical_constraint(
        tokens, ('batch', 'windows', 'tokens', 'embed'))
    num_windows, length = tokens.shape[1:3]
    query = self.queries(tokens)
    own_key, own_value = self.keys_values(tokens)
    text_key, text_value = self.keys_values(text)  # Once a text.

    def beside(own, other):
      other = spread_texts(other, num_windows).astype(own.dtype)
      return jnp.concatenate([own, other], axis=2)

    mask = beside(
        jnp.ones((x.shape[0], num_windows, length), bool), text_mask)
    context = attention.attend(
        query, beside(own_key, text_key), beside(own_value, text_value),
        mask=mask, form=self.form)
    return windows.merge_windows(self.tokens(context), self.window, grid)


def spread_texts(x: jax.Array, num_windows: int) -> jax.Array:
  """[B, F, ...] to [B, N, ...]: each window gets its frame's text."""
  b, num_texts, *rest = x.shape
  x = jnp.broadcast_to(
      x[:, :, None], (b, num_texts, num_windows // num_texts, *rest))
  return x.reshape(b, num_windows, *rest)
