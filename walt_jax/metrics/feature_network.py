"""A feature network ready to run over clips, on all of a process's devices."""
from collections.abc import (
  Callable,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
  Sized,
)
import dataclasses
import hashlib
from typing import Any, Literal

import jax
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from walt_jax.core import progress
from walt_jax.pretrained import networks

Outputs = dict[str, np.ndarray]
FEATURES = 'features'  # The output that Frechet distances compare.
LOGITS = 'logits'  # Of the Inception Score.
SPATIAL = 'spatial'  # Of sFID.


@dataclasses.dataclass
class FeatureNetwork:
  """Maps uint8 clips to features, float32 exactly, preprocessing included.

  A clip's features do not depend on the batch it is computed in: rows never
  meet, and short batches are padded.

  Attributes:
    params: Weights.
    info: Name, source and hash, for the result.
    preprocessing: Name of what happens to pixels before the network.
    apply: Pure function of (params, clips uint8 [B, T, H, W, 3]) to arrays
      [B, D] by output name.
    widths: D of each output.
    kind: 'video', or 'image' for networks of single frames.
    min_frames: Fewest frames a clip may have.
    num_frames: The only number of frames, or None.
    batch_size: Clips a device computes at once.
    devices: Devices of this process to share the clips.
    cache: Features by clip, so that equal clips are computed once; the
      caller's to share or to clear.
    max_cached: Clips that the cache keeps; 0 turns it off.
  """
  params: Any
  info: networks.NetworkInfo
  preprocessing: str
  apply: Callable[[Any, jax.Array], dict[str, jax.Array]]
  widths: Mapping[str, int]
  kind: Literal['video', 'image'] = 'video'
  min_frames: int = 1
  num_frames: int | None = None
  batch_size: int = 1
  devices: Sequence[Any] | None = None
  cache: dict[bytes, Outputs] = dataclasses.field(default_factory=dict)
  max_cached: int = 4096

  def __post_init__(self):
    self._run = jax.jit(self.apply)
    self._placed: dict[int, tuple[Any, NamedSharding]] = {}

  def features(self, clips: Iterable[np.ndarray], *,
               label: str = 'features') -> np.ndarray:
    """Features [N, D] of an iterable of uint8 clips [T, H, W, 3]."""
    total = len(clips) if isinstance(clips, Sized) else None
    found = [batch[FEATURES] for batch in self.batches(
        clips, total=total, label=label)]
    if not found:
      return np.zeros((0, self.widths[FEATURES]), np.float32)
    return np.concatenate(found)

  def batches(self, clips: Iterable[np.ndarray], *, total: int | None = None,
              label: str = 'features') -> Iterator[Outputs]:
    """Yields outputs [n, D] by name, in the order of the clips."""
    shards = len(self.devices) if self.devices else 1
    if total is not None:
      shards = max(1, min(shards, -(-total // self.batch_size)))
    with progress.bar(total, f'{self.info.name}: {label}', 'clip') as bar:
      for batch in _chunks(clips, self.batch_size * shards):
        yield self._outputs(batch, shards)
        bar.update(len(batch))

  def _outputs(self, clips: list[np.ndarray], shards: int) -> Outputs:
    keys = [digest(clip) for clip in clips]
    absent = {key: clip for key, clip in zip(keys, clips, strict=True)
              if key not in self.cache}
    found = {key: self.cache[key] for key in keys if key in self.cache}
    if absent:
      pixels = np.stack(list(absent.values()))
      computed = self._compute(pixels, shards)
      for row, key in enumerate(absent):
        found[key] = {name: value[row] for name, value in computed.items()}
        if len(self.cache) < self.max_cached:
          self.cache[key] = found[key]
    return {name: np.stack([found[key][name] for key in keys])
            for name in self.widths}

  def _compute(self, pixels: np.ndarray, shards: int) -> Outputs:
    if shards not in self._placed:
      devices = list(self.devices)[:shards] if self.devices else (
          jax.local_devices()[:1])
      mesh = jax.make_mesh((shards,), ('data',), devices=devices,
                           axis_types=(AxisType.Auto,))
      self._placed[shards] = (
          jax.device_put(self.params, NamedSharding(mesh, P())),
          NamedSharding(mesh, P('data')))
    params, sharding = self._placed[shards]
    padded = _padded(pixels, self.batch_size * shards)
    outputs = self._run(params, jax.device_put(padded, sharding))
    return {name: np.asarray(value)[:len(pixels)]
            for name, value in outputs.items()}


def digest(clip: np.ndarray) -> bytes:
  """16 bytes that tell clips apart by their pixels and shape."""
  found = hashlib.blake2b(np.ascontiguousarray(clip).data, digest_size=16)
  found.update(repr(clip.shape).encode())
  return found.digest()


def _padded(clips: np.ndarray, size: int) -> np.ndarray:
  """Repeats the last clip, so that every batch has one shape."""
  if len(clips) == size:
    return clips
  return np.concatenate([clips, np.repeat(clips[-1:], size - len(clips), 0)])


def _chunks(items: Iterable[np.ndarray], size: int):
  chunk = []
  for item in items:
    chunk.append(item)
    if len(chunk) == size:
      yield chunk
      chunk = []
  if chunk:
    yield chunk
