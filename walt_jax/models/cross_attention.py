"""Cross-attention to the text and to the query's own window (section 4.2)."""
import jax

from walt_jax.models import branches
from walt_jax.models import constants
from walt_jax.models import window_projections
from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import operands


class CrossAttention(window_projections.WindowProjections):
  """Keys and values are concat(tokens of the query's window, text)."""

  def __call__(
      self, x: jax.Array, text: jax.Array, text_mask: jax.Array
  ) -> branches.Branch:
    """Maps tokens [B, T, H, W, D] to [B, T, H, W, D].

    Args:
      x: Tokens.
      text: [B, F, S, D], projected to the width; with F = T (a text of its
        own for each frame) a window must not span frames.
      text_mask: bool [B, F, S], true at real tokens.
    """
    frames, num_texts = x.shape[1], text.shape[1]
    if num_texts > 1 and (num_texts != frames or self.window[0] != 1):
      raise ValueError(
          f'{num_texts} texts a row need {num_texts} frames and windows of '
          f'one frame; got {frames} frames and window {self.window}.')
    query_scale, key_scale = self.norm_scales()
    exchange = self.exchange(x)
    of_text = lambda project: (
        project(text) if exchange is None
        else exchange.own_heads(project(text), -2))
    text_key = constants.once(self, 'text_key', lambda: of_text(self.key))
    text_value = constants.once(
        self, 'text_value', lambda: of_text(self.value))

    def attend(tokens, whole):
      query, key, value = (
          whole.heads(project, tokens)
          for project in (self.query, self.key, self.value))
      return whole.tokens(fused_attention.attend(
          operands.Operands(
              query, key, value, query_scale, key_scale, text_key=text_key,
              text_value=text_value, text_mask=text_mask),
          whole.window, whole.form))

    return self.over_windows(x, attend, text.shape[2])
