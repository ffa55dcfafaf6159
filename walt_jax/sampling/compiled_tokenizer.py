"""The tokenizer, compiled: pixels to normalised latents and back, on host."""
from collections.abc import Callable, Sequence
import copy
import dataclasses
from typing import Any

import jax
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from walt_jax.core import errors
from walt_jax.core import pixels as pixels_lib
from walt_jax.parallel import programs
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics
from walt_jax.tokenizer import streaming
from walt_jax.tokenizer import tiling

# Latent cells by which blended tiles overlap: 46 to 50 dB from the whole frame
# with norm 'position' (docs/measurements/tokenizer.md).
OVERLAP = 2


@dataclasses.dataclass(frozen=True)
class Chunks:
  """What a tokenizer computes at once of a clip.

  Attributes:
    stream: Whether it goes through a clip by one latent frame at a time, in
      memory that does not grow with the clip; equal to the whole clip up to
      float32 rounding.
    tile: Side of the square tiles of a frame in latent cells; None: whole
      frames. Equal to whole frames with norm 'position'; tiles of a tokenizer
      with norm 'group' overlap and are blended.
  """
  stream: bool = False
  tile: int | None = None


def _is_exact(tokenizer: inference.Tokenizer) -> bool:
  return tokenizer.module.norm == 'position'


class Codec:
  """Encodes and decodes batches of clips; one program a shape."""

  def __init__(self, tokenizer: inference.Tokenizer,
               chunks: Chunks = Chunks()):
    """Takes the weights from the tokenizer with every call.

    Raises:
      UserError: Chunks of a network of the user's own, whose layers nobody
        here knows.
    """
    self._tokenizer, self._chunks = tokenizer, chunks
    module = tokenizer.module
    if chunks != Chunks() and not isinstance(module, autoencoder.Autoencoder):
      raise errors.UserError(
          f'--stream and --tile: the tokenizer is {type(module).__name__}, a '
          'network of your own, which goes through whole clips; leave them out')

    def normalise(frozen, mean):
      return statistics.normalise(mean, frozen['statistics'])

    def encode(frozen, pixels):
      return normalise(frozen, inference.encode_posterior(
          module, frozen['params'], pixels).mean)

    def decode(frozen, latents):
      return pixels_lib.to_uint8(inference.decode_pixels(
          module, frozen['params'], frozen['statistics'], latents))

    self._encode = programs.Program(encode)
    self._decode = programs.Program(decode)
    self._normalise = programs.Program(normalise)
    self._denormalise = programs.Program(
        lambda frozen, latents: statistics.denormalise(
            latents, frozen['statistics']))
    self._encode_chunk = streaming.make_step(module, 'encode')
    self._decode_chunk = streaming.make_step(module, 'decode')
    self._rows: NamedSharding | None = None

  def with_params(self, params: Any) -> 'Codec':
    """The same programs with other weights of the network."""
    other = copy.copy(self)
    other._tokenizer = dataclasses.replace(self._tokenizer, params=params)
    return other

  def over(self, devices: Sequence[Any]) -> 'Codec':
    """The same, with the rows of batches cut over devices.

    Each device computes what one alone would of as many rows.

    Args:
      devices: They must divide the rows of every batch.
    """
    mesh = jax.make_mesh((len(devices),), ('data',), devices=devices,
                         axis_types=(AxisType.Auto,))
    params, stats = jax.device_put(
        (self._tokenizer.params, self._tokenizer.statistics),
        NamedSharding(mesh, P()))
    other = copy.copy(self)
    other._tokenizer = dataclasses.replace(
        self._tokenizer, params=params, statistics=stats)
    other._rows = NamedSharding(mesh, P('data'))
    return other

  def _cut(self, rows: Any) -> Any:
    """Rows on the devices that compute them."""
    return rows if self._rows is None else jax.device_put(rows, self._rows)

  @property
  def sha256(self) -> str:
    """Hash of the file that the weights came from."""
    return self._tokenizer.sha256

  def describe(self) -> dict[str, Any]:
    """What a result says of its chunks, as JSON values."""
    tile = self._chunks.tile
    return dict(stream=self._chunks.stream, tile=tile, tiles=(
        None if tile is None else
        'exact' if _is_exact(self._tokenizer) else 'blended'))

  @property
  def f_s(self) -> int:
    """Pixels a latent cell, along rows and columns."""
    return self._tokenizer.module.f_s

  @property
  def f_t(self) -> int:
    """Frames a latent frame after the first."""
    return self._tokenizer.module.f_t

  def encode(self, pixels: np.ndarray) -> np.ndarray:
    """Maps uint8 [B, 1+T, H, W, 3] to normalised latents [B, 1+t, h, w, c]."""
    return self._tiled(self._encode_frames, 'encode', pixels)

  def decode(self, latents: np.ndarray) -> np.ndarray:
    """Maps normalised latents [B, 1+t, h, w, c] to uint8 [B, 1+T, H, W, 3]."""
    pixels = self._tiled(self._decode_frames, 'decode', latents)
    # Blended tiles are means of values in 0..255.
    return (pixels if pixels.dtype == np.uint8 else
            np.rint(pixels).astype(np.uint8))

  def _encode_frames(self, pixels: np.ndarray) -> np.ndarray:
    frozen = self._tokenizer.frozen
    if not self._chunks.stream:
      return np.asarray(self._encode(frozen, self._cut(pixels)))
    posterior = streaming.encode(
        self._step_of(self._encode_chunk), frozen['params'], pixels,
        f_t=self.f_t)
    return np.asarray(self._normalise(frozen, posterior.mean))

  def _decode_frames(self, latents: np.ndarray) -> np.ndarray:
    frozen = self._tokenizer.frozen
    if not self._chunks.stream:
      return np.asarray(self._decode(frozen, self._cut(latents)))
    latents = np.asarray(self._denormalise(frozen, latents))
    chunks = (latents[:, i:i + 1] for i in range(latents.shape[1]))
    return np.concatenate([
        pixels_lib.to_uint8(pixels) for pixels in
        streaming.run(self._step_of(self._decode_chunk), frozen['params'],
                      chunks)], axis=1)

  def _step_of(self, step: streaming.Step) -> streaming.Step:
    return lambda params, memory, chunk: step(
        params, memory, self._cut(chunk))

  def _tiled(self, apply: Callable[[np.ndarray], np.ndarray], method: str,
             x: np.ndarray) -> np.ndarray:
    """Applies to whole frames or to their tiles."""
    if self._chunks.tile is None:
      return apply(x)
    module, tile = self._tokenizer.module, (self._chunks.tile,) * 2
    if _is_exact(self._tokenizer):
      return tiling.exact(apply, module, method, x, tile)
    return tiling.blend(apply, module, method, x, tile, OVERLAP)
