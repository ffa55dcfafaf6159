"""A patch discriminator on the features of a frozen, pretrained network.

After Projected GANs (Sauer et al., arXiv 2111.01007): features that tell
textures and objects apart from the first step on. Ours: all maps and the
pixels stand in one hypercolumn (Hariharan et al., arXiv 1411.5752) a cell, and
one small network judges it, with its surroundings in space and time.
"""
from collections.abc import Callable, Sequence

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from walt_jax.tokenizer import discriminator
from walt_jax.tokenizer import layers

# Rows and columns of an image to the shapes (h, w, C) of its feature maps.
MapShapes = Callable[[tuple[int, int]], list[tuple[int, int, int]]]


def frame_maps(features: Callable[[jax.Array], Sequence[jax.Array]],
               pixels: jax.Array) -> list[jax.Array]:
  """Feature maps [B, T, h, w, C] of each frame of [B, T, H, W, 3].

  Args:
    features: Maps images [N, H, W, 3] to feature maps [N, h, w, C].
    pixels: Clips in [-1, 1].
  """
  maps = features(pixels.reshape(-1, *pixels.shape[2:]))
  return [m.reshape(*pixels.shape[:2], *m.shape[1:]) for m in maps]


def onto_cells(feature_map: jax.Array, cells: tuple[int, int]) -> jax.Array:
  """Brings features [B, T, h, w, C] to a grid of (rows, columns) cells.

  Finer features are stacked on channels, coarser ones repeated. Each vector is
  scaled to a mean square of 1: networks differ in scale from map to map.

  Raises:
    ValueError: Cells are no multiple or whole part of features, alike in rows
      and columns.
  """
  x = feature_map.astype(jnp.float32)
  x = x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
  size = x.shape[2:4]
  finer, coarser = size[0] // cells[0], cells[0] // size[0]
  if size == (cells[0] * finer, cells[1] * finer):
    return layers.space_to_depth(x, (1, finer, finer))
  if cells == (size[0] * coarser, size[1] * coarser):
    return layers.repeat_cells(x, (1, coarser, coarser))
  raise ValueError(
      f'A feature map of {size[0]}x{size[1]} does not fit the discriminator\'s '
      f'{cells[0]}x{cells[1]} cells; train on frames of a multiple of the '
      'coarsest map\'s stride, or choose fewer discriminator.feature_maps.')


class FeatureDiscriminator(nn.Module):
  """Tells real patches from decoded ones by pixels and feature maps.

  Attributes:
    kind: 'video', convolutions over space and time, or 'image', frames on
      their own.
    feature_maps: Number of the network's maps to judge, the finest first.
    base_channels: Channels of each source's projection, and of all that
      follows.
    cell: Side of the square of pixels that one logit judges.
    blocks: Number of residual 3 x 3 x 3 (image: 1 x 3 x 3) convolutions.
    conv_form: 'native' or 'stacked', see `causal_conv`.
    dtype: Compute type; parameters and logits are float32.
  """
  kind: str = 'video'
  feature_maps: int = 3
  base_channels: int = 64
  cell: int = 4
  blocks: int = 1
  conv_form: str = 'native'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, pixels: jax.Array,
               maps: Sequence[jax.Array]) -> jax.Array:
    """Maps clips to logits [B, T, H / cell, W / cell].

    Args:
      pixels: [B, T, H, W, 3] in [-1, 1].
      maps: `feature_maps` maps of its frames, as `frame_maps` gives them.

    Raises:
      ValueError: On fields or maps that do not fit each other.
    """
    if self.kind not in discriminator.KINDS:
      raise ValueError(f'Unknown kind {self.kind!r}; choose from '
                       f'{discriminator.KINDS}.')
    if self.feature_maps < 1:
      raise ValueError(f'feature_maps is {self.feature_maps}; at least 1 is '
                       'judged (leave the key out to judge pixels alone).')
    if len(maps) != self.feature_maps:
      raise ValueError(f'feature_maps is {self.feature_maps}, but '
                       f'{len(maps)} maps were given.')
    taps = 3 if self.kind == 'video' else 1

    def conv(features, kernel_size, name):
      return discriminator.Conv(features, kernel_size, True, self.conv_form,
                                self.dtype, name=name)

    cells = layers.space_to_depth(pixels, (1, self.cell, self.cell))
    _, _, rows, columns, _ = cells.shape
    sources = [cells, *(onto_cells(m, (rows, columns)) for m in maps)]
    x = jnp.concatenate([
        conv(self.base_channels, (1, 1, 1), f'source_{index}')(source)
        for index, source in enumerate(sources)], axis=-1)
    x = conv(self.base_channels, (1, 1, 1), 'inputs')(nn.leaky_relu(x, 0.2))
    x = nn.leaky_relu(x, 0.2)
    for index in range(self.blocks):
      y = conv(self.base_channels, (taps, 3, 3), f'block_{index}')(x)
      # Half the variance each: the sum keeps its scale without a norm.
      x = (x + nn.leaky_relu(y, 0.2)) * 2.0 ** -0.5
    logits = conv(1, (1, 1, 1), 'logits')(x)
    return logits[..., 0].astype(jnp.float32)


def zero_maps(num_maps: int, pixels: jax.Array,
              map_shapes: MapShapes | None) -> list[jax.Array]:
  """Maps to make parameters with, for `pixels` [B, T, H, W, 3].

  Raises:
    ValueError: Maps are wanted, but their shapes are not known.
  """
  if not num_maps:
    return []  # Judges pixels alone.
  if map_shapes is None:
    raise ValueError('Discriminators with feature_maps need map_shapes.')
  batch, frames, rows, columns, _ = pixels.shape
  return [jnp.zeros((batch, frames, *shape))
          for shape in map_shapes((rows, columns))[:num_maps]]
