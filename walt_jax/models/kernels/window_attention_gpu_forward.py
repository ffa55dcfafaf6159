"""The forward kernel of window attention on NVIDIA GPUs.

A program is a window and a head; its keys and values stay on the chip, where
they fit, while tiles of queries pass. Logits never leave it.
"""
import jax
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from walt_jax.models.kernels import gpu_tiles
from walt_jax.models.kernels import gpu_windows


def forward_kernel(problem, refs):
  """Context and the base-2 log-sum of the logits of one window and head.

  Refs: query, key, value, context [wt, wh, ww, d]; query_scale, key_scale
  [d]; bias [L, L]; identity [] (not zero for images); log_sum [L].
  """
  geometry = problem.geometry
  pieces = geometry.pieces
  query_scale = gpu_windows.load_scale(problem, refs.query_scale)
  key_scale = gpu_windows.load_scale(problem, refs.key_scale)

  def load_keys(tile):
    rows = gpu_tiles.window_rows(geometry, tile, problem.tile)
    key = gpu_tiles.load_columns(refs.key, rows, pieces)
    return (rows, gpu_windows.normalized(problem, key, key_scale).value,
            gpu_tiles.load_columns(refs.value, rows, pieces))

  def attend(tile, keys):
    rows = gpu_tiles.window_rows(geometry, tile, problem.tile)
    query = gpu_windows.normalized(
        problem, gpu_tiles.load_columns(refs.query, rows, pieces),
        query_scale).value

    def step(loaded, carry):
      highest, total, context = carry
      columns, key, value = loaded
      logits = gpu_windows.logits(
          problem, query, key, refs.bias, rows, columns)
      new = jnp.maximum(highest, logits.max(1))
      correction = jnp.exp2(highest - new)
      weights = jnp.exp2(logits - new[:, None])
      total = total * correction + weights.sum(1)
      context = tuple(
          c * correction[:, None] + gpu_tiles.dot(weights.astype(v.dtype), v)
          for c, v in zip(context, value, strict=True))
      return new, total, context

    highest, total, context = _for_tiles(problem, keys, load_keys, step, (
        jnp.full((problem.tile,), -jnp.inf), jnp.zeros((problem.tile,)),
        gpu_tiles.zeros(problem.tile, pieces)))
    context = tuple(c / total[:, None] for c in context)
    gpu_tiles.store_columns(refs.context, rows, pieces, context)
    plgpu.store(refs.log_sum.at[rows.tokens], highest + jnp.log2(total),
                mask=rows.real)

  def attend_all():
    keys = _kept(problem, load_keys)
    gpu_windows.each_tile(
        geometry, problem.tile, lambda tile: attend(tile, keys))

  def pass_on(tile):
    rows = gpu_tiles.window_rows(geometry, tile, problem.tile)
    gpu_tiles.store_columns(
        refs.context, rows, pieces,
        gpu_tiles.load_columns(refs.value, rows, pieces))
    plgpu.store(refs.log_sum.at[rows.tokens], jnp.zeros((problem.tile,)),
                mask=rows.real)

  gpu_windows.unless_image(problem, refs, attend_all,
                lambda: gpu_windows.each_tile(geometry, problem.tile, pass_on))


def _kept(problem, load):
  """All tiles of the keys, to stay on the chip; None if they do not."""
  if not problem.keep:
    return None
  tiles = problem.geometry.num_tiles(problem.tile)
  return [load(tile) for tile in range(tiles)]


def _for_tiles(problem, kept, load, step, carry):
  """Runs `step(loaded, carry)` over the tiles of keys, kept or loaded."""
  if kept is not None:
    for loaded in kept:
      carry = step(loaded, carry)
    return carry
  return jax.lax.fori_loop(
      0, problem.geometry.num_tiles(problem.tile),
      lambda tile, c: step(load(tile), c), carry)
