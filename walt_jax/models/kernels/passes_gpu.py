"""Passes over tokens between products, as Triton kernels for NVIDIA GPUs.

Each reads and writes every token once: the residual sum with the norm and the
modulation behind it, its backward pass with the sums over tokens that the
gradients of modulation, gate and bias are made of, and the gradient of GELU.
Statistics and sums are float32 and never leave the multiprocessor but as one
row of sums a program.

Arrays are [G, R, D] with one set of vectors [G, D] a group of R tokens.
"""
from collections.abc import Callable, Sequence
import math

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

EPSILON = 1e-6  # As `attention.NORM_EPSILON`.
MAX_TOKENS = 40  # Of a program: a row of sums is kept for so many tokens.
HIDDEN_COLUMNS = 1024  # Of the MLP's hidden layer, in one program.
ROWS = 2  # Tokens that a program takes at once.
# Of a program with so many columns at most, and of a wider one.
WARPS, WIDE_WARPS = 4, 8
_GELU_SCALE = 0.7978845608028654  # sqrt(2 / pi).
_GELU_CUBE = 0.044715

Arrays = dict[str, jax.Array]


def tokens_of_program(num_tokens: int) -> int:
  """The largest divisor of `num_tokens` up to `MAX_TOKENS`."""
  return max(n for n in range(1, MAX_TOKENS + 1) if num_tokens % n == 0)


def sum_norm(inputs: Arrays, dtype: jnp.dtype, *, interpret: bool) -> Arrays:
  """The residual sum, and its norm with modulation.

  Args:
    inputs: `x` [G, R, D]; with `y` of its shape and `gate` [G, D] the sum is
      x + gate y, else x itself; with `shift` and `scale` [G, D] the norm is
      computed.
    dtype: Type of the norm.
    interpret: Whether the kernel is interpreted.

  Returns:
    `sum` (with `y`) in the type of x and `norm` (with `shift`).
  """
  x = inputs['x']
  outputs = {}
  if 'y' in inputs:
    outputs['sum'] = x.dtype
  if 'shift' in inputs:
    outputs['norm'] = dtype
  return _call(_sum_norm, _name(inputs, 'shift'), inputs, outputs, (),
               interpret)


def _name(inputs: Arrays, normed: str) -> str:
  """Of a kernel that computes a sum, a norm or both: each has its charge."""
  return '_'.join(name for name, key in (('sum', 'y'), ('norm', normed))
                  if key in inputs)


def _sum_norm(refs, vectors, width, rows):
  loaded = _load_all(refs, ('x', 'y'), rows, width)
  x = loaded['x']
  if 'y' in loaded:
    x = (x + vectors['gate'] * loaded['y']).astype(refs['x'].dtype)
    _store(refs['sum'], rows, width, x)
    x = x.astype(jnp.float32)
  if 'norm' in refs:
    normal, _ = _normalise(x, width)
    scale = 1 + vectors['scale']
    _store(refs['norm'], rows, width, normal * scale + vectors['shift'])
  return ()


def sum_norm_backward(inputs: Arrays, *, interpret: bool) -> Arrays:
  """Gradients of `sum_norm`.

  Args:
    inputs: `d_sum` [G, R, D]; with a norm `d_norm`, `scale` and the sum `x`;
      with a sum `y` and `gate`.
    interpret: Whether the kernel is interpreted.

  Returns:
    `d_x` (with a norm; else it is `d_sum`), `d_y` (with `y`), and sums over
    the tokens of a group, float32 [G, D]: `shift` of d_norm and `scale` of
    d_norm times the normalised x; `gate` of d_x y and `bias` of d_y.
  """
  outputs: dict[str, jnp.dtype] = {}
  sums: tuple[str, ...] = ()
  if 'd_norm' in inputs:
    outputs['d_x'] = inputs['d_sum'].dtype
    sums += ('shift', 'scale')
  if 'y' in inputs:
    outputs['d_y'] = inputs['y'].dtype
    sums += ('gate', 'bias')
  return _call(
      _sum_norm_backward, _name(inputs, 'd_norm') + '_backward', inputs,
      outputs, sums, interpret)


def _sum_norm_backward(refs, vectors, width, rows):
  loaded = _load_all(refs, ('d_sum', 'x', 'd_norm', 'y'), rows, width)
  d_x, sums = loaded['d_sum'], ()
  if 'd_norm' in loaded:
    normal, inverse = _normalise(loaded['x'], width)
    d_norm = loaded['d_norm']
    sums += (d_norm, d_norm * normal)
    slope = d_norm * (1 + vectors['scale'])
    along = _mean(slope * normal, width)
    d_x += _real((slope - _mean(slope, width) - normal * along) * inverse,
                 width)
    _store(refs['d_x'], rows, width, d_x)
  if 'y' in loaded:
    d_y = d_x * vectors['gate']
    sums += (d_x * loaded['y'], d_y)
    _store(refs['d_y'], rows, width, d_y)
  return sums


def gelu_backward(
    inputs: Arrays, *, with_out: bool, interpret: bool) -> Arrays:
  """Gradient of GELU (tanh).

  Args:
    inputs: `hidden`, what GELU was taken of, and `d_out`, both [G, R, M].
    with_out: Whether to compute GELU too.
    interpret: Whether the kernel is interpreted.

  Returns:
    `d_hidden` in the type of `hidden`, and its sums over the tokens of a
    group, `bias` float32 [G, M]; `out`, GELU of `hidden`, if asked for.
  """
  kind = inputs['hidden'].dtype
  outputs = dict(d_hidden=kind) | (dict(out=kind) if with_out else {})
  return _call(_gelu_backward, 'gelu_backward', inputs, outputs, ('bias',),
               interpret)


def _gelu_backward(refs, vectors, width, rows):
  del vectors
  loaded = _load_all(refs, ('hidden', 'd_out'), rows, width)
  hidden = loaded['hidden']
  tanh = jnp.tanh(_GELU_SCALE * (hidden + _GELU_CUBE * hidden ** 3))
  inner = _GELU_SCALE * (1 + 3 * _GELU_CUBE * hidden * hidden)
  if 'out' in refs:
    _store(refs['out'], rows, width, 0.5 * hidden * (1 + tanh))
  slope = 0.5 * (1 + tanh + hidden * (1 - tanh * tanh) * inner)
  d_hidden = loaded['d_out'] * slope
  _store(refs['d_hidden'], rows, width, d_hidden)
  return (d_hidden,)


# Rows [R, D] in registers, padded with zeros to a power of two.


def _columns(width: int):
  """Indices of the padded columns, and which are real (None: all)."""
  columns = jnp.arange(pl.next_power_of_2(width), dtype=jnp.int32)
  return columns, None if columns.size == width else columns < width


def _load(ref, rows, width: int) -> jax.Array:
  at, real = _at(ref, rows, width)
  values = plgpu.load(at) if real is None else plgpu.load(
      at, mask=real, other=0.0)
  return values.astype(jnp.float32)


def _load_all(refs, names, rows, width: int) -> Arrays:
  """Those that there are, before anything else: loads keep their places."""
  return {name: _load(refs[name], rows, width)
          for name in names if name in refs}


def _at(ref, rows, width: int):
  """Where rows are, and which of their columns are real (None: all)."""
  columns, real = _columns(width)
  if real is not None:
    real = jnp.broadcast_to(real, (*rows.shape, columns.size))
  return ref.at[rows[:, None], columns[None]], real


def _load_vector(ref, width: int) -> jax.Array:
  columns, real = _columns(width)
  at = ref.at[columns]
  row = plgpu.load(at) if real is None else plgpu.load(
      at, mask=real, other=0.0)
  return row.astype(jnp.float32)


def _store(ref, rows, width: int, value: jax.Array) -> None:
  at, real = _at(ref, rows, width)
  plgpu.store(at, value.astype(ref.dtype), mask=real)


def _real(x: jax.Array, width: int) -> jax.Array:
  real = _columns(width)[1]
  return x if real is None else jnp.where(real, x, 0)


def _mean(x: jax.Array, width: int) -> jax.Array:
  return x.sum(-1, keepdims=True) / width


def _normalise(x: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
  """x less its mean over its deviation, and one over the deviation."""
  centred = _real(x - _mean(x, width), width)
  inverse = jax.lax.rsqrt(_mean(centred * centred, width) + EPSILON)
  return centred * inverse, inverse


def _call(
    row_of: Callable, name: str, inputs: Arrays,
    outputs: dict[str, jnp.dtype], sums: Sequence[str], interpret: bool,
) -> Arrays:
  """Runs `row_of(refs, vectors, width, rows) -> values to sum` everywhere."""
  tokens = next(x for x in inputs.values() if x.ndim == 3)
  groups, num_tokens, width = tokens.shape
  # A hidden layer is cut by columns; a norm needs its row whole.
  whole = name != 'gelu_backward'
  block = width if whole or width % HIDDEN_COLUMNS else HIDDEN_COLUMNS
  chunk = tokens_of_program(num_tokens)
  taken = math.gcd(chunk, ROWS)
  grid = (groups, num_tokens // chunk, width // block)
  specs = {
      3: pl.BlockSpec((None, chunk, block), lambda g, c, d: (g, c, d)),
      2: pl.BlockSpec((None, block), lambda g, c, d: (g, d)),
      1: pl.BlockSpec((block,), lambda g, c, d: (d,))}
  sum_spec = pl.BlockSpec(
      (None, None, block), lambda g, c, d: (g, c, d))
  num_arrays = len(inputs) + len(outputs)

  def kernel(*refs):
    names = dict(zip((*inputs, *outputs), refs[:num_arrays], strict=True))
    tables = {key: ref for key, ref in names.items() if len(ref.shape) == 2}
    vectors = {key: _load_vector(ref, block) for key, ref in names.items()
               if len(ref.shape) == 1}

    def body(step, totals):
      values = row_of(tables, vectors, block,
                      step * taken + jnp.arange(taken, dtype=jnp.int32))
      return tuple(t + v.sum(0) for t, v in zip(totals, values, strict=True))

    columns, real = _columns(block)
    zero = jnp.zeros(columns.shape, jnp.float32)
    totals = jax.lax.fori_loop(0, chunk // taken, body, (zero,) * len(sums))
    for ref, total in zip(refs[num_arrays:], totals, strict=True):
      plgpu.store(ref.at[columns], total, mask=real)

  struct = jax.ShapeDtypeStruct
  out = pl.pallas_call(
      kernel, name=name, interpret=interpret, grid=grid,
      in_specs=[specs[x.ndim] for x in inputs.values()],
      out_specs=[specs[3]] * len(outputs) + [sum_spec] * len(sums),
      out_shape=[struct(tokens.shape, kind) for kind in outputs.values()] + [
          struct((groups, grid[1], width), jnp.float32) for _ in sums],
      compiler_params=plgpu.CompilerParams(
          num_warps=WARPS if block <= HIDDEN_COLUMNS else WIDE_WARPS,
          num_stages=2),
  )(*inputs.values())
  found = dict(zip(outputs, out[:len(outputs)], strict=True))
  return found | {
      key: total.sum(1)
      for key, total in zip(sums, out[len(outputs):], strict=True)}
