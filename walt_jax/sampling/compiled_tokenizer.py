"""The tokenizer, compiled: pixels to normalised latents and back, on host."""
from collections.abc import Sequence
import copy
import dataclasses
import logging
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from walt_jax.core import errors
from walt_jax.core import pixels as pixels_lib
from walt_jax.parallel import device_memory
from walt_jax.sampling import tokenizer_forms
from walt_jax.sampling import tokenizer_programs
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import streaming
from walt_jax.tokenizer import tiling

Chunks = tokenizer_forms.Chunks
Choice = tokenizer_forms.Choice
Form = tokenizer_forms.Form
METHODS = ('encode', 'decode')
_ANY = Chunks()  # Nothing is asked for.


class Codec:
  """Encodes and decodes batches of clips; one program a shape."""

  def __init__(self, tokenizer: inference.Tokenizer,
               chunks: tokenizer_forms.Chunks = _ANY, *,
               devices: Sequence[jax.Device] = (),
               prefer_height: bool = False, free_bytes: int | None = None):
    """Takes the weights from the tokenizer with every call.

    Args:
      tokenizer: The network and its weights.
      chunks: What it computes at once, whatever fits.
      devices: What batches are spread over; by default they go where the
        weights are.
      prefer_height: Whether each frame is cut over the devices, along its
        height, rather than clips spread.
      free_bytes: Memory of a device that may be used; what it has by default.

    Raises:
      UserError: Chunks of a network of the user's own, whose layers nobody
        here knows.
    """
    self._tokenizer, self._chunks = tokenizer, chunks
    if chunks != _ANY and not tokenizer_programs.is_ours(tokenizer.module):
      raise errors.UserError(
          '--stream and --tile: the tokenizer is '
          f'{type(tokenizer.module).__name__}, a network of your own, which '
          'goes through whole clips; leave them out')
    self._programs = tokenizer_programs.TokenizerPrograms(tokenizer.module)
    self._devices, self._prefer_height = tuple(devices), prefer_height
    self._free_bytes = free_bytes
    self._choices: dict[Any, list[Choice]] = {}
    self._frozen: dict[int, Any] = {}  # By devices that hold it.

  def with_params(self, params: Any) -> 'Codec':
    """The same programs with other weights of the network."""
    other = copy.copy(self)
    other._tokenizer = dataclasses.replace(self._tokenizer, params=params)
    other._frozen = {}
    return other

  def over(self, devices: Sequence[jax.Device]) -> 'Codec':
    """The same, with batches spread over devices."""
    other = copy.copy(self)
    other._devices, other._choices, other._frozen = tuple(devices), {}, {}
    return other

  @property
  def sha256(self) -> str:
    """Hash of the file that the weights came from."""
    return self._tokenizer.sha256

  def describe(self) -> dict[str, Any]:
    """What a result says of the forms that were used, as JSON values."""
    used = {method: [left[0] for key, left in self._choices.items()
                     if key[0] == method] for method in METHODS}
    forms = [choice.form for choices in used.values() for choice in choices]
    tile = next((form.tile for form in forms if form.tile), self._chunks.tile)
    return dict(
        stream=self._chunks.stream or any(form.stream for form in forms),
        tile=tile, tiles=(
            None if tile is None else
            'exact' if tokenizer_programs.is_exact(self._tokenizer.module)
            else 'blended'),
        **{f'{method}_forms': [choice.as_json() for choice in choices]
           for method, choices in used.items()})

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
    return self._apply('encode', pixels)

  def decode(self, latents: np.ndarray,
             rows: int | None = None) -> np.ndarray:
    """Maps normalised latents [B, 1+t, h, w, c] to uint8 [B, 1+T, H, W, 3].

    Args:
      latents: The latents.
      rows: Rows of the batches that these end, whose form and programs are
        used; B by default.
    """
    return self._apply('decode', latents, rows)

  def choice(self, method: str, shape: Sequence[int]) -> Choice:
    """How a batch of pixels or latents of this shape is computed.

    Args:
      method: 'encode' or 'decode'.
      shape: [B, 1+T, H, W, 3] or [B, 1+t, h, w, c].
    """
    key = method, tuple(shape)
    if key not in self._choices:
      self._choices[key] = self._fitting(method, tuple(shape))
    return self._choices[key][0]

  def _fitting(self, method: str, shape: tuple[int, ...]) -> list[Choice]:
    """The first form that fits, and those that need less, in order."""
    free = self._free_bytes
    if free is None:
      free = device_memory.free_bytes(
          self._devices or [next(iter(jnp.zeros(()).devices()))])
    return self._programs.fitting(
        method, self._chunks, self._tokenizer.frozen, shape, free,
        max(len(self._devices), 1), prefer_height=self._prefer_height)

  def _apply(self, method: str, x: np.ndarray,
             rows: int | None = None) -> np.ndarray:
    """Computes a batch in the form that fits, or in one that needs less."""
    shape = rows or len(x), *x.shape[1:]
    choice, left = self.choice(method, shape), self._choices[method, shape]
    while True:
      try:
        return self._in_form(method, choice.form, x)
      except jax.errors.JaxRuntimeError as e:
        if 'RESOURCE_EXHAUSTED' not in str(e) or len(left) < 2:
          raise
      # What a compiler or an allocator says stands above an estimate.
      left.pop(0)
      choice = left[0]
      logging.getLogger('walt_jax').warning(
          'tokenizer: %s of %s does not fit into memory after all; continuing '
          'with %s.', method, 'x'.join(map(str, x.shape)), choice.form.words)

  def _in_form(self, method: str, form: Form, x: np.ndarray) -> np.ndarray:
    """Computes a batch in one form, as many rows at once as it takes."""
    size, total = form.at_once(max(len(self._devices), 1)), len(x)
    parts = []
    for first in range(0, total, size):
      # The last rows are repeated: one program serves all batches.
      rows = np.minimum(np.arange(first, first + size), total - 1)
      part = self._tiled(method, form, x[rows] if size != total else x)
      parts.append(part[:total - first])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

  def _tiled(self, method: str, form: Form, x: np.ndarray) -> np.ndarray:
    """Computes whole frames or their tiles."""
    apply = lambda part: self._frames(method, form, part)
    if form.tile is None:
      return apply(x)
    module, tile = self._tokenizer.module, (form.tile,) * 2
    if tokenizer_programs.is_exact(module):
      return tiling.exact(apply, module, method, x, tile)
    blended = tiling.blend(apply, module, method, x, tile,
                           tokenizer_programs.OVERLAP)
    # Blended pixels are means of values in 0..255.
    return (np.rint(blended).astype(np.uint8) if method == 'decode'
            else blended)

  def _frames(self, method: str, form: Form, x: np.ndarray) -> np.ndarray:
    """Computes what goes to the devices at once, frame by frame or whole."""
    layout = self._layout(form)
    frozen = self._placed(layout)
    put = lambda part: (
        part if layout is None else jax.device_put(part, layout))
    if not form.stream:
      return np.asarray(self._programs.whole[method](frozen, put(x)))
    step = self._programs.step(method, layout)
    cut = lambda params, memory, chunk: step(params, memory, put(chunk))
    if method == 'encode':
      posterior = streaming.encode(cut, frozen['params'], x, f_t=self.f_t)
      return np.asarray(self._programs.normalise(frozen, posterior.mean))
    latents = np.asarray(self._programs.denormalise(frozen, x))
    chunks = (latents[:, i:i + 1] for i in range(latents.shape[1]))
    return np.concatenate([
        pixels_lib.to_uint8(pixels) for pixels in
        streaming.run(cut, frozen['params'], chunks)], axis=1)

  def _layout(self, form: Form) -> NamedSharding | None:
    """How arrays [B, T, H, W, C] lie on the devices."""
    devices: Sequence[jax.Device] = self._devices
    if not devices:
      return None
    if form.height_parts > 1:
      devices = devices[:form.height_parts]
    return tokenizer_programs.layout(form, devices)

  def _placed(self, frames: NamedSharding | None) -> Any:
    """Weights and statistics, whole on every device."""
    frozen = self._tokenizer.frozen
    if frames is None:
      return frozen
    count = frames.mesh.size
    if count not in self._frozen:
      self._frozen[count] = jax.device_put(
          frozen, NamedSharding(frames.mesh, P()))
    return self._frozen[count]
