"""I3D features of uint8 clips, preprocessed as the FVD protocol says."""
from collections.abc import Iterable, Iterator, Sized
import dataclasses
import functools
import hashlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax import progress
from walt_jax.pretrained import i3d
from walt_jax.pretrained import networks

PREPROCESSING = 'tf1-bilinear-224'


def resize_tf1_bilinear(frames: jax.Array, size: int) -> jax.Array:
  """TensorFlow 1's `resize_bilinear`: no half-pixel centres, no antialiasing.

  Output pixel i reads the source at i * H / size; beyond the last row it
  repeats that row. FVD's reference code resizes so.

  Args:
    frames: Float [..., H, W, C].
    size: Rows and columns of the result.
  """
  for axis in (-3, -2):
    extent = frames.shape[axis]
    if extent == size:
      continue
    where = np.arange(size, dtype=np.float32) * np.float32(extent / size)
    low = np.floor(where).astype(np.int32)
    high = np.minimum(low + 1, extent - 1)
    share = (where - low).reshape((-1,) + (1,) * (-axis - 1))
    first = jnp.take(frames, low, axis=axis)
    frames = first + (jnp.take(frames, high, axis=axis) - first) * share
  return frames


def preprocess(clips: jax.Array) -> jax.Array:
  """Maps uint8 [B, T, H, W, 3] to float32 [B, T, 224, 224, 3] in [-1, 1]."""
  frames = resize_tf1_bilinear(clips.astype(jnp.float32), i3d.IMAGE_SIZE)
  return frames * (2.0 / 255.0) - 1.0


def scored_frames(num_frames: int, wanted: int | None = None) -> int:
  """How many first frames of a clip are scored.

  All, except that 17-frame models are scored on their first 16 frames, as
  the published protocols are (MAGVIT, W.A.L.T).
  """
  if wanted is not None:
    return wanted
  return 16 if num_frames == 17 else num_frames


@dataclasses.dataclass
class VideoNetwork:
  """I3D ready to run: `features(clips)`.

  Attributes:
    params: From `i3d.load`, on the devices that compute.
    info: Name, source and hash, for the result.
    conv_form: Of I3D; 'stacked' is the faster one on CPUs.
    batch_size: Clips computed at once; 1 wastes nothing on a CPU.
    cache: Features by clip, so that equal clips are computed once; the
      caller's to share or to clear.
  """
  params: i3d.Params
  info: networks.NetworkInfo
  conv_form: i3d.ConvForm = 'stacked'
  batch_size: int = 1
  cache: dict[bytes, np.ndarray] = dataclasses.field(default_factory=dict)

  def features(self, clips: Iterable[np.ndarray], *,
               label: str = 'I3D features') -> np.ndarray:
    """Features [N, 400] of an iterable of uint8 clips [T, H, W, 3]."""
    total = len(clips) if isinstance(clips, Sized) else None
    batches = list(self.feature_batches(clips, total=total, label=label))
    if not batches:
      return np.zeros((0, i3d.NUM_FEATURES), np.float32)
    return np.concatenate(batches)

  def feature_batches(
      self, clips: Iterable[np.ndarray], *, total: int | None = None,
      label: str = 'I3D features') -> Iterator[np.ndarray]:
    """Yields features [<= batch_size, 400] in order of the clips."""
    with progress.bar(total, label, 'clip') as bar:
      for batch in _chunks(clips, self.batch_size):
        yield self._batch_features(batch)
        bar.update(len(batch))

  def _batch_features(self, clips: list[np.ndarray]) -> np.ndarray:
    keys = [_digest(clip) for clip in clips]
    absent = {key: clip for key, clip in zip(keys, clips, strict=True)
              if key not in self.cache}
    if absent:
      pixels = np.stack(list(absent.values()))
      found = _features(self.params, _padded(pixels, self.batch_size),
                        conv_form=self.conv_form)
      self.cache.update(zip(absent, np.asarray(found), strict=False))
    return np.stack([self.cache[key] for key in keys])


def load_network(
    path: str | pathlib.Path | None = None, *,
    conv_form: i3d.ConvForm = 'stacked', batch_size: int = 1,
    device: Any = None) -> VideoNetwork:
  """Reads I3D; see `VideoNetwork` for the arguments.

  Args:
    path: Weight file, or None for the installed package's.
    conv_form: How its convolutions are carried out.
    batch_size: Clips computed at once.
    device: Where to put the weights; None is JAX's default device.
  """
  params, info = i3d.load(path)
  return VideoNetwork(jax.device_put(params, device), info, conv_form,
                      batch_size)


@functools.partial(jax.jit, static_argnames='conv_form')
def _features(params: i3d.Params, clips: jax.Array, *,
              conv_form: i3d.ConvForm) -> jax.Array:
  return i3d.features(params, preprocess(clips), conv_form=conv_form)


def _digest(clip: np.ndarray) -> bytes:
  digest = hashlib.blake2b(np.ascontiguousarray(clip).data, digest_size=16)
  digest.update(repr(clip.shape).encode())
  return digest.digest()


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
