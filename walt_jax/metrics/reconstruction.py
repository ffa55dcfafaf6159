"""How near one set of clips is to another, pair by pair.

All numbers are means over clips of values computed on whole clips, with
pixels as fractions of the range 0..255.
"""
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
import dataclasses
import functools
from typing import Any, TypeAlias

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from walt_jax.core import distances
from walt_jax.core import progress
from walt_jax.parallel import multihost
from walt_jax.parallel import shares as shares_lib
from walt_jax.pretrained import efficientnet
from walt_jax.pretrained import lpips
from walt_jax.pretrained import networks

# Wang et al., 2004, "Image quality assessment", section III.C.
_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5
_SSIM_K1, _SSIM_K2 = 0.01, 0.03

FeatureFn = Callable[[jax.Array], list[jax.Array]]
Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
# Names of the perceptual distances.
PERCEPTUAL, SECOND, LPIPS = 'perceptual', 'perceptual_lite2', 'lpips'
_LABEL = 'reconstruction'  # Of the progress bar.
LPIPS_SIZE = lpips.MIN_SIZE  # Frames of fewer pixels a side have no LPIPS.


def ssim(a: jax.Array, b: jax.Array) -> jax.Array:
  """Structural similarity of clips [B, T, H, W, 3] in [0, 1]: [B].

  Gaussian windows of 11 pixels (sigma 1.5), those that lie inside the frame;
  each frame and channel on its own, then the mean.
  """
  if min(a.shape[2:4]) < _SSIM_WINDOW:
    raise ValueError(f'SSIM needs frames of at least {_SSIM_WINDOW} pixels, '
                     f'got {a.shape}.')
  blur = functools.partial(
      _blur, rows=_gaussian_rows(a.shape[2]), cols=_gaussian_rows(a.shape[3]))
  mean_a, mean_b = blur(a), blur(b)
  var_a = blur(a * a) - mean_a * mean_a
  var_b = blur(b * b) - mean_b * mean_b
  covariance = blur(a * b) - mean_a * mean_b
  c1, c2 = _SSIM_K1 ** 2, _SSIM_K2 ** 2
  similarity = (
      (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
      / ((mean_a ** 2 + mean_b ** 2 + c1) * (var_a + var_b + c2)))
  return jnp.mean(similarity, axis=(1, 2, 3, 4))


def flicker(a: jax.Array, b: jax.Array) -> jax.Array:
  """Mean absolute difference of frame differences of [B, T, ..]: [B].

  Zero for still clips, however wrong their frames; a reconstruction whose
  errors stand still does not flicker.
  """
  if a.shape[1] < 2:
    return jnp.zeros(len(a), jnp.float32)
  return jnp.mean(jnp.abs(jnp.diff(a, axis=1) - jnp.diff(b, axis=1)),
                  axis=(1, 2, 3, 4))


def perceptual_distance(features: FeatureFn, a: jax.Array,
                        b: jax.Array) -> jax.Array:
  """Distance of deep features of clips [B, T, H, W, 3] in [-1, 1]: [B].

  `distances.feature_distances`, averaged over positions, then over layers and
  frames.

  Args:
    features: Maps images [N, H, W, 3] in [-1, 1] to feature maps [N, h, w, C].
    a: Clips.
    b: Clips of the same shape.
  """
  images_a = a.reshape(-1, *a.shape[2:])
  images_b = b.reshape(-1, *b.shape[2:])
  gaps = [layer.mean(axis=(1, 2)) for layer in distances.feature_distances(
      features(images_a), features(images_b))]
  return jnp.mean(jnp.stack(gaps).reshape(len(gaps), len(a), -1), axis=(0, 2))


@dataclasses.dataclass(frozen=True)
class PerceptualNetworks:
  """Networks of perceptual distances, ready to run.

  Tokenizers are trained with EfficientNet-Lite0: the second network judges
  what the first one trained.

  Attributes:
    params: Result of `efficientnet.load` or `lpips.load`, by the name of the
      score.
    infos: Name, source and hash of each, for the result.
  """
  params: Mapping[str, efficientnet.Params]
  infos: Mapping[str, networks.NetworkInfo]


def load_networks(lpips_files: Sequence[str] = ()) -> PerceptualNetworks:
  """Reads EfficientNet-Lite0 and Lite2 of their installed packages.

  Args:
    lpips_files: Arguments of `lpips.load`, for that distance beside.

  Raises:
    errors.UserError: A package is not installed, or another file.
  """
  loaded = {PERCEPTUAL: efficientnet.load(),
            SECOND: efficientnet.load(name=efficientnet.LITE2)}
  if lpips_files:
    loaded[LPIPS] = lpips.load(*lpips_files)
  return PerceptualNetworks(
      {name: jax.device_put(params) for name, (params, _) in loaded.items()},
      {name: info for name, (_, info) in loaded.items()})


def compare_clips(
    real: Iterable[np.ndarray], other: Iterable[np.ndarray],
    network: PerceptualNetworks, *, label: str = _LABEL,
    devices: Sequence[Any] = ()) -> dict[str, float]:
  """Mean PSNR, SSIM, perceptual distances and flicker of pairs of clips.

  Args:
    real: uint8 clips [T, H, W, 3] (or one array [N, T, H, W, 3]).
    other: As many clips, of the same shapes. Both are read in step, once.
    network: Networks of the perceptual distances.
    label: Text of the progress bar.
    devices: Devices that share the pairs, as in `compare_pairs`.

  Returns:
    What `compare_pairs` returns.
  """
  return compare_pairs(
      zip(real, other, strict=True), network, label=label, devices=devices,
      total=len(real) if isinstance(real, Sized) else None)


def compare_pairs(
    pairs: Iterable[Pair], network: PerceptualNetworks, *,
    total: int | None = None, label: str = _LABEL,
    devices: Sequence[Any] = (),
    shares: shares_lib.Shares | None = None) -> dict[str, float]:
  """Mean PSNR, SSIM, perceptual distances and flicker of pairs of clips.

  Args:
    pairs: Two uint8 clips [T, H, W, 3] of one shape each; read once.
    network: Networks of the perceptual distances.
    total: How many pairs there are, for the progress bar; None: unknown.
    label: Text of the progress bar.
    devices: Share the pairs, one each at a time; none is JAX's default one.
    shares: How the pairs are dealt to several processes, of which each gives
      its own and gets the means of all; None: the pairs are all there are.

  Returns:
    psnr (dB), ssim, perceptual (EfficientNet-Lite0), perceptual_lite2 (a
    network that trained nothing), lpips where it was loaded, flicker (share
    of the pixel range) and l1.
    The PSNR of clips that are equal is 100 dB, not infinite.
  """
  rows: list[dict[str, Any]] = []
  measure, size = _measure_on(devices, network)
  waiting: list[Pair] = []

  def flush():
    full = waiting + waiting[-1:] * (size - len(waiting))
    a, b = (np.stack(clips) for clips in zip(*full, strict=True))
    found = measure(a, b)
    rows.extend({name: values[i] for name, values in found.items()}
                for i in range(len(waiting)))
    waiting.clear()

  for a, b in progress.track(pairs, label, 'clip', total):
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8:
      raise ValueError(f'Clips to compare must be uint8 of one shape, got '
                       f'{a.dtype} {a.shape} and {b.dtype} {b.shape}.')
    if waiting and waiting[0][0].shape != a.shape:
      flush()
    waiting.append((a, b))
    if len(waiting) == size:
      flush()
  if waiting:
    flush()
  if shares is not None:
    rows = _of_all(rows, shares)
  if not rows:
    raise ValueError('No clips to compare.')
  return {name: float(np.mean([row[name] for row in rows]))
          for name in rows[0]}


def _of_all(rows: list[dict[str, Any]], shares: shares_lib.Shares
            ) -> list[dict[str, Any]]:
  """The scores of all processes' pairs, in order."""
  # The first process has pairs wherever there are any.
  names = multihost.of_main(list(rows[0]) if rows else [])
  scores = ((np.array([row[name] for name in names]),) for row in rows)
  found = {number: dict(zip(names, values, strict=True))
           for number, (values,) in shares.together(scores)}
  return [found[number] for number in range(shares.total)]


def _measure_on(devices: Sequence[Any], network: PerceptualNetworks
                ) -> tuple[Callable[..., dict[str, np.ndarray]], int]:
  """`_measure` of as many pairs as there are devices, and how many."""
  place = lambda clips: clips
  params = network.params
  if devices:
    mesh = jax.make_mesh((len(devices),), ('data',), devices=devices,
                         axis_types=(AxisType.Auto,))
    params = jax.device_put(params, NamedSharding(mesh, P()))
    place = lambda clips: jax.device_put(clips, NamedSharding(mesh, P('data')))

  def measure(a, b):
    return jax.device_get(_measure(params, place(a), place(b)))

  return measure, max(1, len(devices))


@jax.jit
def _measure(params: Mapping[str, efficientnet.Params], a: jax.Array,
             b: jax.Array) -> dict[str, jax.Array]:
  a, b = a.astype(jnp.float32) / 255, b.astype(jnp.float32) / 255
  perceptual = {
      name: (_lpips if name == LPIPS else _perceptual)(
          network, a * 2 - 1, b * 2 - 1) for name, network in params.items()}
  return dict(psnr=distances.psnr(a, b, peak=1.0), ssim=ssim(a, b),
              flicker=flicker(a, b),
              l1=jnp.mean(jnp.abs(a - b), axis=(1, 2, 3, 4)), **perceptual)


def _perceptual(params: efficientnet.Params, a: jax.Array,
                b: jax.Array) -> jax.Array:
  return perceptual_distance(
      functools.partial(efficientnet.features, params), a, b)


def _lpips(params: lpips.Params, a: jax.Array, b: jax.Array) -> jax.Array:
  """LPIPS of each frame, averaged over the frames: [B]."""
  frames = lpips.distance(
      params, a.reshape(-1, *a.shape[2:]), b.reshape(-1, *b.shape[2:]))
  return frames.reshape(a.shape[:2]).mean(axis=1)


def _gaussian_rows(extent: int) -> np.ndarray:
  """Windows as the rows of a matrix [extent - 10, extent]."""
  taps = np.arange(_SSIM_WINDOW) - _SSIM_WINDOW // 2
  weights = np.exp(-0.5 * (taps / _SSIM_SIGMA) ** 2)
  weights /= weights.sum()
  rows = np.zeros((extent - _SSIM_WINDOW + 1, extent), np.float32)
  for i in range(len(rows)):
    rows[i, i:i + _SSIM_WINDOW] = weights
  return rows


def _blur(x: jax.Array, rows: np.ndarray, cols: np.ndarray) -> jax.Array:
  einsum = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
  x = einsum('ih,bthwc->btiwc', rows, x)
  return einsum('jw,btiwc->btijc', cols, x)


def summary(pairs: Iterable[Pair], network: PerceptualNetworks, *,
            total: int | None = None, devices: Sequence[Any] = (),
            shares: shares_lib.Shares | None = None) -> dict[str, Any]:
  """`compare_pairs` with the networks' names, as results store it."""
  return compare_pairs(pairs, network, total=total, devices=devices,
                       shares=shares) | {
      f'{name}_network': dataclasses.asdict(info)
      for name, info in network.infos.items()}
