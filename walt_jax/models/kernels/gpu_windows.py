"""What the Triton kernels of window attention have in common.

Logits are in base two: the bias arrives multiplied by log2(e), and weights are
`exp2(logits - ..)`.
"""
import dataclasses

import jax
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from walt_jax.models import attention
from walt_jax.models.kernels import gpu_tiles

LOG2_E = 1.4426950408889634


@dataclasses.dataclass(frozen=True)
class Launch:
  """How Triton runs a program of a kernel.

  Attributes:
    num_warps: Warps of 32 threads.
    num_stages: Stages of the pipeline of a loop's loads.
  """
  num_warps: int
  num_stages: int = 2


@dataclasses.dataclass(frozen=True)
class Problem:
  """What the kernels of one call are made for.

  Attributes:
    geometry: The windows.
    tile: Queries and keys of a tile of the forward kernel.
    keys: Keys of a tile of the backward kernels.
    keys_queries: Queries of such a tile of the `keys` kernel.
    queries: Queries of such a tile of the `queries` kernel.
    use_qk_norm: Whether queries and keys pass LayerNorm first.
    use_bias: Whether a bias is added to the logits.
    use_identity: Whether rows of the batch may be marked as images.
    keep: Whether the keys of a window stay on the chip in the forward kernel
      (else they are read and normalised again for every tile of queries).
    interpret: Whether the kernels are interpreted.
  """
  geometry: gpu_tiles.Geometry
  tile: int
  keys: int
  keys_queries: int
  queries: int
  use_qk_norm: bool
  use_bias: bool
  use_identity: bool
  keep: bool
  interpret: bool

  @property
  def log2_scale(self) -> float:
    return self.geometry.head_dim ** -.5 * LOG2_E


def normalized(problem, x, scale):
  """Rows ready for products, with or without QK norm."""
  if not problem.use_qk_norm:
    return gpu_tiles.Normalized(x, (), jnp.ones(()))
  return gpu_tiles.normalize(
      x, scale, problem.geometry.head_dim, attention.NORM_EPSILON)


def load_scale(problem, ref):
  """Scale of QK norm by pieces; empty without."""
  if not problem.use_qk_norm:
    return ()
  return gpu_tiles.load_vector(ref, problem.geometry.pieces)


def each_tile(geometry, size, run):
  """Runs `run(tile)` for the tiles of a window."""
  def step(tile, nothing):
    run(tile)
    return nothing
  jax.lax.fori_loop(0, geometry.num_tiles(size), step, 0)


def unless_image(problem, refs, run, run_image):
  """Runs one of two: the latter where the program's row is an image."""
  if not problem.use_identity:
    run()
    return
  jax.lax.cond(refs.identity[...] == 0, run, run_image)


def logits(problem, a, b, bias_ref, rows, columns):
  """Logits in base two [rows, columns]; -inf at columns not real.

  The bias is no sum that the product starts from: Triton fetches it early
  only where it is added after.
  """
  out = gpu_tiles.dot_columns(a, b) * problem.log2_scale
  if problem.use_bias:
    out = out + load_pairs(bias_ref, rows, columns).astype(jnp.float32)
  if columns.real is not None:
    out = jnp.where(columns.real[None], out, -jnp.inf)
  return out


def load_pairs(ref, rows, columns):
  """Reads [rows, columns] of a table [L, L]; zero where not real."""
  real = _real_pairs(rows, columns)
  return plgpu.load(ref.at[rows.tokens[:, None], columns.tokens[None]],
                    mask=real, other=None if real is None else 0.)


def store_pairs(ref, rows, columns, values):
  """Writes [rows, columns] of a table [L, L]."""
  plgpu.store(ref.at[rows.tokens[:, None], columns.tokens[None]],
              values.astype(ref.dtype), mask=_real_pairs(rows, columns))


def _real_pairs(rows, columns):
  """Mask of [rows, columns], or None if all are real."""
  if rows.real is None and columns.real is None:
    return None
  every = lambda x: (
      jnp.ones(x.tokens.shape, bool) if x.real is None else x.real)
  return every(rows)[:, None] & every(columns)[None]


def row_values(ref, rows, other):
  """[rows] float32 of one window and head, `other` at rows not real."""
  at = ref.at[rows.tokens]
  if rows.real is None:
    return plgpu.load(at)
  return plgpu.load(at, mask=rows.real, other=other)
