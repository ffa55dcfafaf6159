"""The programs of each form of a tokenizer: traced, estimated, laid out."""
from collections.abc import Sequence
import math
from typing import Any

import jax
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from walt_jax.core import pixels as pixels_lib
from walt_jax.parallel import liveness
from walt_jax.parallel import programs
from walt_jax.sampling import tokenizer_forms
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics
from walt_jax.tokenizer import streaming
from walt_jax.tokenizer import tiling

Form = tokenizer_forms.Form
# Latent cells by which blended tiles overlap: 46 to 50 dB from the whole frame
# with norm 'position' (docs/measurements/tokenizer.md).
OVERLAP = 2
_AXIS = 'devices'


class TokenizerPrograms:
  """What the tokenizer runs, for arrays or for their shapes.

  Attributes:
    module: The network.
  """

  def __init__(self, module: Any):
    """Traces nothing yet."""
    self.module = module

    def encode(frozen, pixels):
      mean = inference.encode_posterior(module, frozen['params'], pixels).mean
      return statistics.normalise(mean, frozen['statistics'])

    def decode(frozen, latents):
      return pixels_lib.to_uint8(inference.decode_pixels(
          module, frozen['params'], frozen['statistics'], latents))

    self.whole = dict(encode=programs.Program(encode),
                      decode=programs.Program(decode))
    self.normalise = programs.Program(
        lambda frozen, mean: statistics.normalise(mean, frozen['statistics']))
    self.denormalise = programs.Program(
        lambda frozen, latents: statistics.denormalise(
            latents, frozen['statistics']))
    self._steps: dict[Any, Any] = {}

  def step(self, method: str, frames: NamedSharding | None) -> Any:
    """One step of a stream, whose arrays lie so on devices."""
    key = method, frames
    if key not in self._steps:
      self._steps[key] = streaming.make_step(self.module, method, frames)
    return self._steps[key]

  def trace(self, method: str, form: Form, frozen: Any, x: jax.ShapeDtypeStruct,
            frames: NamedSharding | None = None
            ) -> dict[str, tuple[jax.stages.Traced, int]]:
    """Traces what a form runs on clips of one shape.

    Args:
      method: 'encode' or 'decode'.
      form: The form.
      frozen: Weights and statistics, or their shapes.
      x: Shape of what is encoded or decoded at once, whole clips.
      frames: How arrays lie on devices.

    Returns:
      For each program its trace, and how often it runs.
    """
    name = f'tokenizer, {method}'
    tiles = 1
    if form.tile is not None:
      cell = self.module.f_s if method == 'encode' else 1
      tiles = math.prod(-(-x.shape[i] // (cell * form.tile)) for i in (2, 3))
      x = self._tile_of(method, form.tile, x)
    if not form.stream:
      return {name: (self.whole[method].trace(frozen, x), tiles)}
    pixels_of_latent = self.module.f_t if method == 'encode' else 1
    chunk = lambda count: jax.ShapeDtypeStruct(
        (x.shape[0], count, *x.shape[2:]), x.dtype, sharding=x.sharding)
    step = self.step(method, frames)
    first = step.trace(frozen['params'], None, chunk(1))
    later = (x.shape[1] - 1) // pixels_of_latent
    found = {f'{name}, first latent frame': (first, tiles)}
    if later:
      memory = jax.tree.map(
          lambda leaf: jax.ShapeDtypeStruct(
              leaf.shape, leaf.dtype, sharding=(
                  frames if len(leaf.shape) == len(x.shape) else None)),
          first.out_info[1])
      found[f'{name}, later latent frame'] = step.trace(
          frozen['params'], memory, chunk(pixels_of_latent)), later * tiles
    return found

  def _tile_of(self, method: str, tile: int, x: jax.ShapeDtypeStruct
               ) -> jax.ShapeDtypeStruct:
    """The shape of one tile, with what it overlaps by."""
    cell = self.module.f_s if method == 'encode' else 1
    margin = (tiling.halo(self.module, method) if is_exact(self.module)
              else OVERLAP)
    side = cell * (tile + 2 * margin)
    b, t, h, w, c = x.shape
    return jax.ShapeDtypeStruct((b, t, min(h, side), min(w, side), c), x.dtype,
                                sharding=x.sharding)

  def estimate(self, method: str, form: Form, frozen: Any,
               x: jax.ShapeDtypeStruct, num_devices: int) -> int:
    """Bytes that each device needs, about: no compiler is asked.

    Args:
      method: 'encode' or 'decode'.
      form: The form.
      frozen: Weights and statistics.
      x: Shape of what all devices compute at once.
      num_devices: Devices that share it evenly.
    """
    weights = sum(_bytes(leaf) for leaf in jax.tree.leaves(frozen))
    worst = 0
    for traced, _ in self.trace(method, form, frozen, x).values():
      arguments = sum(
          map(_bytes, jax.tree.leaves(traced.in_avals))) - weights
      worst = max(worst, arguments + liveness.of_traced(traced.jaxpr))
    return weights + worst // num_devices

  def fitting(self, method: str, chunks: tokenizer_forms.Chunks, frozen: Any,
              shape: tuple[int, ...], free_bytes: int, num_devices: int, *,
              prefer_height: bool = False) -> list[tokenizer_forms.Choice]:
    """The first form that fits, and those that need less, in their order.

    The last one alone where none does.

    Args:
      method: 'encode' or 'decode'.
      chunks: What the user wants, whatever fits.
      frozen: Weights and statistics, or their shapes.
      shape: [B, 1+T, H, W, 3] of pixels or [B, 1+t, h, w, c] of latents.
      free_bytes: Memory of a device that may be used.
      num_devices: Devices to spread over.
      prefer_height: See `tokenizer_forms.forms`.
    """
    module = self.module
    latents = (shape if method == 'decode' else
               module.latent_shape((1, streaming.padded_length(
                   shape[1], module.f_t), *shape[2:])))
    found: list[tokenizer_forms.Choice] = []
    for form in tokenizer_forms.forms(
        chunks, shape[0], num_devices, latents[1:4], is_ours=is_ours(module),
        is_local=is_ours(module) and is_exact(module),
        prefer_height=prefer_height):
      parts = form.height_parts if form.height_parts > 1 else num_devices
      needed = 0
      if not any(choice.fits for choice in found):
        needed = self.estimate(method, form, frozen, jax.ShapeDtypeStruct(
            (form.at_once(num_devices), *shape[1:]),
            np.uint8 if method == 'encode' else np.float32), parts)
      found.append(tokenizer_forms.Choice(form, needed, free_bytes, parts))
    first = [i for i, choice in enumerate(found) if choice.fits]
    return found[first[0] if first else -1:]


def is_ours(module: Any) -> bool:
  """Whether a network is one whose layers are known here."""
  return isinstance(module, autoencoder.Autoencoder)


def is_exact(module: Any) -> bool:
  """Whether tiles of frames are equal to whole frames."""
  return module.norm == 'position'


def _bytes(leaf: Any) -> int:
  return math.prod(leaf.shape) * leaf.dtype.itemsize


def layout(form: Form, devices: Sequence[jax.Device]) -> NamedSharding:
  """How arrays [B, T, H, W, C] lie on devices: by rows, or by height."""
  mesh = jax.sharding.Mesh(
      np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,))
  return NamedSharding(
      mesh, P(None, None, _AXIS) if form.height_parts > 1 else P(_AXIS))
