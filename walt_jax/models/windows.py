"""Cutting a grid of tokens into non-overlapping space-time windows."""
import jax

Window = tuple[int, int, int]  # (frames, rows, columns), in tokens.


def check_window(grid: Window, window: Window) -> None:
  """Raises ValueError when `window` does not tile `grid`."""
  if any(g % w for g, w in zip(grid, window, strict=True)):
    raise ValueError(
        f'Token grid {grid} is not a multiple of window {window}.')


def partition_windows(x: jax.Array, window: Window) -> jax.Array:
  """Cuts [B, T, H, W, ...] into [B, N, L, ...]; windows in raster order."""
  b, t, h, w, *rest = x.shape
  wt, wh, ww = window
  check_window((t, h, w), window)
  num, length = (t // wt) * (h // wh) * (w // ww), wt * wh * ww
  # A window as wide and high as the frame needs no transposition.
  if (wh, ww) != (h, w):
    x = x.reshape(b, t // wt, wt, h // wh, wh, w // ww, ww, *rest)
    tail = range(7, 7 + len(rest))
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, *tail)
  return x.reshape(b, num, length, *rest)


def merge_windows(x: jax.Array, window: Window, grid: Window) -> jax.Array:
  """Puts [B, N, L, ...] back as [B, T, H, W, ...] with (T, H, W) = grid."""
  b, _, _, *rest = x.shape
  t, h, w = grid
  wt, wh, ww = window
  if (wh, ww) != (h, w):
    x = x.reshape(b, t // wt, h // wh, w // ww, wt, wh, ww, *rest)
    tail = range(7, 7 + len(rest))
    x = x.transpose(0, 1, 4, 2, 5, 3, 6, *tail)
  return x.reshape(b, t, h, w, *rest)


def patchify(x: jax.Array, patch: int) -> jax.Array:
  """[B, T, h, w, c] to [B, T, h/p, w/p, p * p * c], each frame on its own."""
  b, t, h, w, c = x.shape
  if h % patch or w % patch:
    raise ValueError(f'Latent grid {(h, w)} is not a multiple of patch '
                     f'{patch}.')
  if patch == 1:
    return x
  x = x.reshape(b, t, h // patch, patch, w // patch, patch, c)
  x = x.transpose(0, 1, 2, 4, 3, 5, 6)
  return x.reshape(b, t, h // patch, w // patch, patch * patch * c)


def unpatchify(x: jax.Array, patch: int) -> jax.Array:
  """The inverse of `patchify`; also depth-to-space by `patch`."""
  b, t, h, w, depth = x.shape
  if patch == 1:
    return x
  c = depth // (patch * patch)
  x = x.reshape(b, t, h, w, patch, patch, c).transpose(0, 1, 2, 4, 3, 5, 6)
  return x.reshape(b, t, h * patch, w * patch, c)
