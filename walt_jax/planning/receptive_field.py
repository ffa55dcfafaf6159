"""How far the tokenizer's convolutions see, from its fields alone.

Norms are left out: GroupNorm mixes the whole of every frame (and of no other),
whatever the convolutions see.
"""
from collections.abc import Iterator
import dataclasses

from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import causal_conv

Triple = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
  """Extents in frames, rows and columns.

  Attributes:
    encoder: Pixels that one latent cell sees.
    decoder: Latent cells that one pixel sees, at most (it depends on where in
      its cell the pixel lies).
  """
  encoder: Triple
  decoder: Triple


@dataclasses.dataclass(frozen=True)
class _Step:
  """A convolution, or a stacking (`up` 1) or unstacking of patches.

  Attributes:
    taps: Extent of the kernel.
    stride: Cells of the input to one of the output.
    up: Cells of the output to one of the input.
  """
  taps: int = 1
  stride: int = 1
  up: int = 1


def receptive_field(
    tokenizer: autoencoder_lib.Autoencoder) -> ReceptiveField:
  """Computes what a latent cell and a pixel far from all borders see."""
  strides = (tokenizer.f_t, tokenizer.f_s, tokenizer.f_s)
  encoder, decoder = [], []
  for axis, stride in enumerate(strides):
    encoder.append(_extent(
        list(_encoder_steps(tokenizer, axis)), axis, outputs=1))
    decoder.append(_extent(
        list(_decoder_steps(tokenizer, axis)), axis, outputs=stride))
  return ReceptiveField(_triple(encoder), _triple(decoder))


def _triple(extents: list[int]) -> Triple:
  frames, rows, columns = extents
  return frames, rows, columns


def _encoder_steps(tokenizer, axis: int) -> Iterator[_Step]:
  """From pixels to latents."""
  block = [_Step(tokenizer.kernel_size[axis])] * 2
  yield _Step(tokenizer.stem_patch[axis], tokenizer.stem_patch[axis])
  yield _Step(tokenizer.stem_kernel[axis])
  for level in range(len(tokenizer.channel_multipliers)):
    yield from block * tokenizer.blocks_per_level
    if level < len(tokenizer.level_strides):
      yield _Step(3, tokenizer.level_strides[level][axis])
  yield from block * tokenizer.middle_blocks


def _decoder_steps(tokenizer, axis: int) -> Iterator[_Step]:
  """From latents to pixels."""
  block = [_Step(tokenizer.kernel_size[axis])] * 2
  yield _Step(3)
  yield from block * tokenizer.middle_blocks
  for level in reversed(range(len(tokenizer.channel_multipliers))):
    yield from block * tokenizer.blocks_per_level
    if level > 0:
      yield _Step(tokenizer.kernel_size[axis])
      yield _Step(up=tokenizer.level_strides[level - 1][axis])
  yield _Step(tokenizer.head_kernel[axis])
  yield _Step(up=tokenizer.stem_patch[axis])


def _extent(steps: list[_Step], axis: int, outputs: int) -> int:
  """Most input cells that one of `outputs` successive output cells sees."""
  extents = []
  for position in range(outputs):
    first = last = position
    for step in reversed(steps):
      # Frames: group i of a stride ends at frame i * stride; see
      # `layers.space_to_depth` and `layers.depth_to_space`.
      if axis == 0:
        first, last = -(-first // step.up), -(-last // step.up)
        first, last = first * step.stride - (step.taps - 1), last * step.stride
      else:
        first, last = first // step.up, last // step.up
        before, _ = causal_conv.spatial_padding(step.taps, step.stride)
        first = first * step.stride - before
        last = last * step.stride - before + step.taps - 1
    extents.append(last - first + 1)
  return max(extents)
