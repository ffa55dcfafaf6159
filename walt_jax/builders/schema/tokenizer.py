"""Sections of a tokenizer's config."""
import dataclasses
from typing import ClassVar, Literal

from walt_jax.builders.sections import Location
from walt_jax.builders.sections import OwnClass
from walt_jax.core import ranges
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import discriminator as discriminator_lib
from walt_jax.tokenizer import feature_discriminator

Dtype = Literal['float32', 'bfloat16']
Triple = tuple[ranges.Extent, ranges.Extent, ranges.Extent]


@dataclasses.dataclass(frozen=True)
class Autoencoder:
  """The tokenizer's network (section 4.1, MAGVIT-v2 without quantizer)."""
  configures: ClassVar[type] = autoencoder_lib.Autoencoder
  base_channels: ranges.Width = 128
  channel_multipliers: tuple[ranges.Extent, ...] = (1, 2, 2, 4)
  time_downsample: tuple[bool, ...] = (False, True, True)
  blocks_per_level: ranges.MaybeLayers = 4
  middle_blocks: ranges.MaybeLayers = 4
  latent_channels: ranges.Width = 8
  bottleneck: Literal['plain', 'kl'] = 'plain'
  norm: Literal['group', 'position'] = 'group'
  num_groups: ranges.Width = 32
  adaptive_decoder: bool = True
  kernel_size: Triple = (3, 3, 3)
  stem_patch: Triple = (1, 1, 1)
  stem_kernel: Triple = (3, 3, 3)
  head_kernel: Triple = (3, 3, 3)
  linear_ends: bool = False
  remat: bool = False
  dtype: Dtype = 'float32'

  def __post_init__(self):
    if len(self.time_downsample) != len(self.channel_multipliers) - 1:
      raise ValueError(
          f'time_downsample {self.time_downsample} needs one entry fewer than '
          f'channel_multipliers {self.channel_multipliers}')
    if self.stem_patch[1] != self.stem_patch[2]:
      raise ValueError(f'stem_patch {self.stem_patch} must be square in space')


@dataclasses.dataclass(frozen=True)
class OwnTokenizer:
  """A tokenizer's network of your own, in place of the built-in one.

  Attributes:
    name: Its class as module:Class (`tokenizer.network.Network`).
  """
  name: OwnClass


@dataclasses.dataclass(frozen=True)
class Discriminator:
  """The tokenizer's opponent, on pixels (MAGVIT-v2)."""
  configures: ClassVar[type] = discriminator_lib.Discriminator
  base_channels: ranges.Width = 64
  channel_multipliers: tuple[ranges.Extent, ...] = (2, 4, 4)
  time_downsample: tuple[bool, ...] = (False, True, True)
  stem_patch: Triple = (1, 1, 1)
  dtype: Dtype = 'float32'


@dataclasses.dataclass(frozen=True)
class FeatureDiscriminator:
  """The tokenizer's opponent, on pixels and EfficientNet-Lite0's maps (ours).
  """
  configures: ClassVar[type] = feature_discriminator.FeatureDiscriminator
  feature_maps: ranges.Width
  base_channels: ranges.Width = 64
  cell: ranges.Extent = 4
  blocks: ranges.MaybeLayers = 1
  dtype: Dtype = 'float32'


@dataclasses.dataclass(frozen=True)
class Perceptual:
  """The frozen network of perceptual distance and feature discriminator.

  Attributes:
    path: File of EfficientNet-Lite0's weights (a PyTorch state dictionary);
      '' takes those of the installed package.
  """
  path: Location = ''


@dataclasses.dataclass(frozen=True)
class Statistics:
  """The latents' mean and deviation, measured when training is done.

  Attributes:
    num_batches: Training batches that they are measured on.
  """
  num_batches: ranges.Count = 64


@dataclasses.dataclass(frozen=True)
class RandomTokenizer:
  """A fixed random tokenizer, for runs that only try the machinery.

  Attributes:
    model: Its network.
    seed: Random seed of its parameters.
  """
  model: Autoencoder | OwnTokenizer
  seed: ranges.Seed = 0
