"""The causal video autoencoder: MAGVIT-v2 without its quantizer.

Section 4.1 and appendix A of the paper. One module serves the paper's
networks and, through `stem_patch`, a small quick form whose whole work is
done at the size of the latents.
"""
import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from walt_jax.core import types
from walt_jax.tokenizer import causal_conv
from walt_jax.tokenizer import layers

Triple = tuple[int, int, int]
BOTTLENECKS = ('plain', 'kl')
LOGVAR_RANGE = (-30.0, 20.0)


class Autoencoder(nn.Module):
  """Maps clips to latents and back, strictly causally in time.

  An image is a clip of one frame. All parameters lie under `encoder` and
  `decoder`.

  Attributes:
    base_channels: Channels of the first level.
    channel_multipliers: One factor on `base_channels` a level; every level
      but the last ends with a halving of rows and columns.
    time_downsample: For every level but the last, whether frames are halved
      there too.
    blocks_per_level: Residual blocks of each level.
    middle_blocks: Residual blocks at the latents' size, in encoder and
      decoder each, besides those of the last level.
    latent_channels: Channels c of the latents.
    bottleneck: What the encoder gives: 'plain' latents, or 'kl', their mean
      and log-variance.
    norm: Norm of the blocks: 'group', per-frame GroupNorm, or 'position', over
      the channels of each position (frames can then be tiled exactly).
    num_groups: Groups of GroupNorm.
    adaptive_decoder: Whether each decoder level starts with a norm that is
      modulated by the latents.
    kernel_size: Extent of the blocks' and the decoder's upsampling
      convolutions.
    stem_patch: Frames, rows and columns that the stem stacks on channels
      before anything else, and the head unstacks; (1, 1, 1) for the paper's.
    stem_kernel: Extent of the encoder's first convolution.
    head_kernel: Extent of the decoder's last convolution.
    linear_ends: Whether the last layers of encoder and decoder come without
      norm and SiLU, so that an untrained network is near a linear one; the
      quick form needs it, the paper's networks do not have it.
    conv_form: 'native' or 'stacked', see `causal_conv`.
    flat_norms: Whether norms are computed as CPUs are faster with, see `Norm`.
    remat: Whether the backward pass computes each residual block again, which
      saves memory.
    dtype: Compute type; parameters, norms and outputs are float32.
  """
  base_channels: int = 128
  channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
  time_downsample: tuple[bool, ...] = (False, True, True)
  blocks_per_level: int = 4
  middle_blocks: int = 4
  latent_channels: int = 8
  bottleneck: str = 'plain'
  norm: str = 'group'
  num_groups: int = 32
  adaptive_decoder: bool = True
  kernel_size: Triple = (3, 3, 3)
  stem_patch: Triple = (1, 1, 1)
  stem_kernel: Triple = (3, 3, 3)
  head_kernel: Triple = (3, 3, 3)
  linear_ends: bool = False
  conv_form: str = 'native'
  flat_norms: bool = False
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  @property
  def f_t(self) -> int:
    """Frames of a clip to one latent frame."""
    return self.stem_patch[0] * math.prod(s[0] for s in self.level_strides)

  @property
  def f_s(self) -> int:
    """Rows (and columns) of a frame to one latent cell."""
    return self.stem_patch[1] * 2 ** len(self.level_strides)

  @property
  def level_strides(self) -> tuple[Triple, ...]:
    """Resampling after each level but the last."""
    return tuple((2 if halve else 1, 2, 2) for halve in self.time_downsample)

  def latent_shape(self, pixel_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the latents of [B, 1+T, H, W, 3]."""
    b, frames, rows, columns, _ = pixel_shape
    if (frames - 1) % self.f_t or rows % self.f_s or columns % self.f_s:
      raise ValueError(
          f'A clip of {frames}x{rows}x{columns} does not fit this tokenizer: '
          f'frames must be 1 + a multiple of {self.f_t}, rows and columns '
          f'multiples of {self.f_s}.')
    return (b, 1 + (frames - 1) // self.f_t, rows // self.f_s,
            columns // self.f_s, self.latent_channels)

  def setup(self):
    if len(self.time_downsample) != len(self.channel_multipliers) - 1:
      raise ValueError(
          f'time_downsample {self.time_downsample} needs one entry fewer than '
          f'channel_multipliers {self.channel_multipliers}.')
    if self.bottleneck not in BOTTLENECKS:
      raise ValueError(f'Unknown bottleneck {self.bottleneck!r}; choose from '
                       f'{BOTTLENECKS}.')
    if self.stem_patch[1] != self.stem_patch[2]:
      raise ValueError(f'stem_patch {self.stem_patch} must be square in space.')
    widths = tuple(self.base_channels * m for m in self.channel_multipliers)
    shared = dict(
        widths=widths, strides=self.level_strides,
        blocks_per_level=self.blocks_per_level,
        middle_blocks=self.middle_blocks, norm=self.norm,
        num_groups=self.num_groups, kernel_size=self.kernel_size,
        stem_patch=self.stem_patch, linear_ends=self.linear_ends,
        form=self.conv_form, flat=self.flat_norms, remat=self.remat,
        dtype=self.dtype)
    num_outputs = self.latent_channels * (1 + (self.bottleneck == 'kl'))
    self.encoder = Encoder(
        num_outputs=num_outputs, stem_kernel=self.stem_kernel, **shared)
    self.decoder = Decoder(
        adaptive=self.adaptive_decoder, head_kernel=self.head_kernel, **shared)

  def encode(self, pixels: jax.Array) -> types.Posterior:
    """Maps pixels [B, 1+T, H, W, 3] in [-1, 1] to [B, 1+t, h, w, c].

    Within a stream (see `CausalConv`), later chunks have T frames, no 1+T.
    """
    if not causal_conv.is_streaming(self):
      self.latent_shape(pixels.shape)  # Raises where the clip does not fit.
    outputs = self.encoder(pixels).astype(jnp.float32)
    if self.bottleneck == 'plain':
      return types.Posterior(mean=outputs)
    mean, logvar = jnp.split(outputs, 2, axis=-1)
    return types.Posterior(mean=mean, logvar=jnp.clip(logvar, *LOGVAR_RANGE))

  def decode(self, latents: jax.Array) -> jax.Array:
    """Maps latents [B, 1+t, h, w, c] to pixels [B, 1+T, H, W, 3]."""
    return self.decoder(latents).astype(jnp.float32)

  def __call__(self, pixels: jax.Array) -> tuple[jax.Array, types.Posterior]:
    """Returns the reconstruction (from the mean) and the posterior."""
    posterior = self.encode(pixels)
    return self.decode(posterior.mean), posterior


class Encoder(nn.Module):
  """Pixels to the bottleneck's channels; attributes as in `Autoencoder`."""
  widths: tuple[int, ...]
  strides: tuple[Triple, ...]
  blocks_per_level: int
  middle_blocks: int
  num_outputs: int
  norm: str
  num_groups: int
  kernel_size: Triple
  stem_patch: Triple
  stem_kernel: Triple
  linear_ends: bool
  form: str
  flat: bool
  remat: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, 1+T, H, W, 3] to [B, 1+t, h, w, num_outputs]."""
    block = nn.remat(layers.ResidualBlock) if self.remat else (
        layers.ResidualBlock)
    common = (self.kernel_size, self.norm, self.num_groups, self.form,
              self.dtype, self.flat)
    x = layers.space_to_depth(x, self.stem_patch,
                              starts=layers.starts_clip(self))
    x = causal_conv.CausalConv(self.widths[0], self.stem_kernel,
                               form=self.form, dtype=self.dtype,
                               name='stem')(x)
    for level, width in enumerate(self.widths):
      for index in range(self.blocks_per_level):
        x = block(width, *common, name=f'level_{level}_block_{index}')(x)
      if level < len(self.strides):
        x = causal_conv.CausalConv(
            width, (3, 3, 3), self.strides[level], form=self.form,
            dtype=self.dtype, name=f'level_{level}_down')(x)
    for index in range(self.middle_blocks):
      x = block(self.widths[-1], *common, name=f'middle_block_{index}')(x)
    if not self.linear_ends:
      x = nn.silu(layers.Norm(self.norm, self.num_groups, flat=self.flat,
                              name='norm')(x))
    return causal_conv.CausalConv(self.num_outputs, (1, 1, 1), form=self.form,
                                  dtype=self.dtype, name='outputs')(x)


class Decoder(nn.Module):
  """Latents to pixels; attributes as in `Autoencoder`."""
  widths: tuple[int, ...]
  strides: tuple[Triple, ...]
  blocks_per_level: int
  middle_blocks: int
  adaptive: bool
  norm: str
  num_groups: int
  kernel_size: Triple
  stem_patch: Triple
  head_kernel: Triple
  linear_ends: bool
  form: str
  flat: bool
  remat: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, latents: jax.Array) -> jax.Array:
    """Maps [B, 1+t, h, w, c] to [B, 1+T, H, W, 3]."""
    block = nn.remat(layers.ResidualBlock) if self.remat else (
        layers.ResidualBlock)
    common = (self.kernel_size, self.norm, self.num_groups, self.form,
              self.dtype, self.flat)
    starts = layers.starts_clip(self)
    x = causal_conv.CausalConv(self.widths[-1], (3, 3, 3), form=self.form,
                               dtype=self.dtype, name='inputs')(latents)
    for index in range(self.middle_blocks):
      x = block(self.widths[-1], *common, name=f'middle_block_{index}')(x)
    for level in reversed(range(len(self.widths))):
      if self.adaptive:
        x = layers.AdaptiveNorm(self.norm, self.num_groups, flat=self.flat,
                                name=f'level_{level}_adaptive')(x, latents)
      for index in range(self.blocks_per_level):
        x = block(self.widths[level], *common,
                  name=f'level_{level}_block_{index}')(x)
      if level > 0:
        factor = self.strides[level - 1]
        x = causal_conv.CausalConv(
            self.widths[level] * math.prod(factor), self.kernel_size,
            form=self.form, dtype=self.dtype, name=f'level_{level}_up')(x)
        x = layers.depth_to_space(x, factor, starts=starts)
    if not self.linear_ends:
      x = nn.silu(layers.Norm(self.norm, self.num_groups, flat=self.flat,
                              name='norm')(x))
    x = causal_conv.CausalConv(3 * math.prod(self.stem_patch),
                               self.head_kernel, form=self.form,
                               dtype=self.dtype, name='head')(x)
    return layers.depth_to_space(x, self.stem_patch, starts=starts)
