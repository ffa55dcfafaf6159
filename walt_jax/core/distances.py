"""How far one clip is from another: what training logs is what is scored."""
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

MAX_PSNR = 100.0  # In dB, of clips that are equal.
_LEAST_ERROR = 10.0 ** (-MAX_PSNR / 10.0)
_NORM_OFFSET = 1e-8


def psnr(a: jax.Array, b: jax.Array, *, peak: float) -> jax.Array:
  """Peak signal-to-noise ratio in dB of clips [B, T, H, W, 3]: [B].

  Of the mean square error over the whole clip, at most `MAX_PSNR`.

  Args:
    a: Clips.
    b: Clips of the same shape.
    peak: Difference between the darkest and the brightest value: 2 for pixels
      in [-1, 1].
  """
  error = jnp.square(a - b).mean(tuple(range(1, a.ndim)))
  return -10.0 * jnp.log10(jnp.maximum(error / peak ** 2, _LEAST_ERROR))


def feature_distances(a: Sequence[jax.Array],
                      b: Sequence[jax.Array]) -> Iterator[jax.Array]:
  """Distances of feature maps, position by position.

  Feature vectors are scaled to unit length and the squared differences summed
  over channels, as in LPIPS (arXiv 1801.03924) without its learned weights.

  Args:
    a: Feature maps [N, h, w, C] of the layers of a network.
    b: Feature maps of other images, of the same shapes.

  Yields:
    [N, h, w] of each layer. The perceptual distance is their mean over
    positions, then over layers.
  """
  for x, y in zip(a, b, strict=True):
    yield jnp.square(_unit(x) - _unit(y)).sum(-1)


def _unit(x: jax.Array) -> jax.Array:
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(
      jnp.square(x).sum(-1, keepdims=True) + _NORM_OFFSET)
