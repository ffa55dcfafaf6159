"""Patch discriminators: 3D for clips, 2D for images.

After MAGVIT-v2 (appendix A): residual blocks, blurred downsampling, leaky
ReLU, no normalisation; a logit for every patch.
"""
from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from walt_jax.tokenizer import layers

Triple = tuple[int, int, int]
KINDS = ('video', 'image')
BLUR = (1.0, 2.0, 1.0)  # Binomial; MAGVIT-v2 blurs with a 3-tap filter.


def blur_downsample(x: jax.Array, strides: Triple) -> jax.Array:
  """Low-passes and subsamples [B, T, H, W, C], each axis that has a stride.

  Edges are repeated, so that a constant stays constant.
  """
  for axis, stride in enumerate(strides, start=1):
    if stride == 1 or x.shape[axis] == 1:
      continue
    pads = [(0, 0)] * x.ndim
    pads[axis] = (1, 1)
    padded = jnp.pad(x, pads, mode='edge')
    length = x.shape[axis]
    taps = [lax.slice_in_dim(padded, tap, tap + length, stride, axis)
            for tap in range(3)]
    x = sum((weight / sum(BLUR) * tap
             for weight, tap in zip(BLUR, taps, strict=True)),
            start=jnp.zeros((), x.dtype))
  return x


class Discriminator(nn.Module):
  """Tells real patches from decoded ones.

  Attributes:
    kind: 'video', convolutions over space and time, or 'image', frames on
      their own.
    base_channels: Channels of the first level.
    channel_multipliers: One factor on `base_channels` a level; each level
      halves rows and columns.
    time_downsample: Whether a level halves frames too ('video').
    stem_patch: Frames, rows and columns that are stacked on channels before
      anything else; nothing is lost, and a quick network does all its work at
      the smaller size. (1, 1, 1) for the paper's.
    dtype: Compute type; parameters and logits are float32.
  """
  kind: str = 'video'
  base_channels: int = 64
  channel_multipliers: tuple[int, ...] = (2, 4, 4)
  time_downsample: tuple[bool, ...] = (False, True, True)
  stem_patch: Triple = (1, 1, 1)
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, pixels: jax.Array) -> jax.Array:
    """Maps pixels [B, T, H, W, 3] in [-1, 1] to logits [B, T', H', W']."""
    if self.kind not in KINDS:
      raise ValueError(f'Unknown kind {self.kind!r}; choose from {KINDS}.')
    if len(self.time_downsample) != len(self.channel_multipliers):
      raise ValueError(
          f'time_downsample {self.time_downsample} and channel_multipliers '
          f'{self.channel_multipliers} differ in length.')
    if self.kind == 'image' and self.stem_patch[0] != 1:
      raise ValueError(
          f'stem_patch {self.stem_patch} mixes frames: not for images.')
    taps = 3 if self.kind == 'video' else 1
    x = layers.space_to_depth(pixels, self.stem_patch)
    x = nn.Conv(self.base_channels, (taps, 3, 3), dtype=self.dtype,
                name='inputs')(x)
    x = nn.leaky_relu(x, 0.2)
    levels = zip(self.channel_multipliers, self.time_downsample, strict=True)
    for level, (multiplier, halve) in enumerate(levels):
      width = self.base_channels * multiplier
      strides = (2 if halve and self.kind == 'video' else 1, 2, 2)
      y = nn.Conv(x.shape[-1], (taps, 3, 3), dtype=self.dtype,
                  name=f'level_{level}_conv_1')(x)
      y = blur_downsample(nn.leaky_relu(y, 0.2), strides)
      y = nn.Conv(width, (taps, 3, 3), dtype=self.dtype,
                  name=f'level_{level}_conv_2')(y)
      x = nn.Conv(width, (1, 1, 1), use_bias=False, dtype=self.dtype,
                  name=f'level_{level}_shortcut')(blur_downsample(x, strides))
      # Half the variance each: the sum keeps its scale without a norm.
      x = (x + nn.leaky_relu(y, 0.2)) * 2.0 ** -0.5
    x = nn.Conv(x.shape[-1], (taps, 3, 3), dtype=self.dtype, name='mix')(x)
    x = nn.leaky_relu(x, 0.2)
    logits = nn.Conv(1, (1, 1, 1), dtype=self.dtype, name='logits')(x)
    return logits[..., 0].astype(jnp.float32)
