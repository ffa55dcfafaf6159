"""Patch discriminators: 3D for clips, 2D for images.

After MAGVIT-v2 (appendix A): residual blocks, blurred downsampling, leaky
ReLU, no normalisation; a logit for every patch.
"""
from collections.abc import Sequence

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from walt_jax.tokenizer import causal_conv
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


class Conv(nn.Module):
  """A convolution that sees as far ahead as back, with zeros outside.

  Attributes:
    features: D.
    kernel_size: Extent in frames, rows and columns, odd.
    use_bias: Whether to add one.
    form: Form of the convolutions, as in `causal_conv.convolve`.
    dtype: Compute type; parameters stay float32.
  """
  features: int
  kernel_size: Triple
  use_bias: bool = True
  form: str = 'native'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T, H, W, D]."""
    kernel = self.param('kernel', nn.initializers.lecun_normal(),
                        (*self.kernel_size, x.shape[-1], self.features))
    time, rows, columns = (
        (size // 2, size // 2) for size in self.kernel_size)
    x = jnp.pad(x.astype(self.dtype), ((0, 0), time, *[(0, 0)] * 3))
    x = causal_conv.convolve(
        x, kernel.astype(self.dtype), strides=(1, 1, 1),
        padding=(rows, columns), form=self.form)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.features,))
      x = x + bias.astype(self.dtype)
    return x


class Discriminator(nn.Module):
  """Tells real patches from decoded ones by their pixels.

  Attributes:
    kind: 'video', convolutions over space and time, or 'image', frames on
      their own.
    base_channels: Channels of the first level.
    channel_multipliers: One factor on `base_channels` a level; each level
      halves rows and columns.
    time_downsample: For each level, whether frames are halved there too (of
      clips).
    stem_patch: Frames, rows and columns that are stacked on channels before
      anything else; nothing is lost, and a quick network does all its work at
      the smaller size. (1, 1, 1) for the paper's.
    conv_form: 'native' or 'stacked', see `causal_conv`.
    dtype: Compute type; parameters and logits are float32.
  """
  kind: str = 'video'
  base_channels: int = 64
  channel_multipliers: tuple[int, ...] = (2, 4, 4)
  time_downsample: tuple[bool, ...] = (False, True, True)
  stem_patch: Triple = (1, 1, 1)
  conv_form: str = 'native'
  dtype: jnp.dtype = jnp.float32

  @property
  def feature_maps(self) -> int:
    """How many maps of a frozen network are judged: none."""
    return 0

  @nn.compact
  def __call__(self, pixels: jax.Array,
               maps: Sequence[jax.Array] = ()) -> jax.Array:
    """Maps pixels [B, T, H, W, 3] in [-1, 1] to logits [B, T', H', W'].

    `maps` is empty: the call is that of `FeatureDiscriminator`.
    """
    if len(maps):
      raise ValueError('This discriminator judges pixels alone, but '
                       f'{len(maps)} feature maps were given.')
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

    def conv(features, kernel_size, name, use_bias=True):
      return Conv(features, kernel_size, use_bias, self.conv_form, self.dtype,
                  name=name)

    x = layers.space_to_depth(pixels, self.stem_patch)
    x = conv(self.base_channels, (taps, 3, 3), 'inputs')(x)
    x = nn.leaky_relu(x, 0.2)
    levels = zip(self.channel_multipliers, self.time_downsample, strict=True)
    for level, (multiplier, halve) in enumerate(levels):
      width = self.base_channels * multiplier
      strides = (2 if halve and self.kind == 'video' else 1, 2, 2)
      y = conv(x.shape[-1], (taps, 3, 3), f'level_{level}_conv_1')(x)
      y = blur_downsample(nn.leaky_relu(y, 0.2), strides)
      y = conv(width, (taps, 3, 3), f'level_{level}_conv_2')(y)
      x = conv(width, (1, 1, 1), f'level_{level}_shortcut', use_bias=False)(
          blur_downsample(x, strides))
      # Half the variance each: the sum keeps its scale without a norm.
      x = (x + nn.leaky_relu(y, 0.2)) * 2.0 ** -0.5
    x = nn.leaky_relu(conv(x.shape[-1], (taps, 3, 3), 'mix')(x), 0.2)
    logits = conv(1, (1, 1, 1), 'logits')(x)
    return logits[..., 0].astype(jnp.float32)
