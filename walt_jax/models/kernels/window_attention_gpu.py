"""Window attention on NVIDIA GPUs: Triton kernels, forward and backward.

QK norm, relative bias, softmax and the identity rule of image rows in one
pass; queries and keys of a window never meet in memory. Tokens stay in their
grid: a program finds its window's tokens by address, so that windows need no
transposition. Kernels compute float32 operands in TF32, as XLA does on GPUs.
"""
import types

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from walt_jax.models import windows
from walt_jax.models.kernels import gpu_tiles
from walt_jax.models.kernels import gpu_windows
from walt_jax.models.kernels import operands as operands_lib
from walt_jax.models.kernels import window_attention_gpu_backward as to_operands
from walt_jax.models.kernels import window_attention_gpu_forward as to_context

TILE = 64  # Queries and keys of a product.
# Registers hold whole tiles of heads of up to 64 columns, and the gradient of
# the bias of a tile of queries and 320 keys. Of one of the two they hold more
# where some tiles are halves.
WHOLE_HEAD, WHOLE_LENGTH = 64, 320
MAX_HEAD, MAX_LENGTH = 80, 576
# Of keys and values of one window (or queries and gradients of the context)
# that stay on the chip: two programs then share a multiprocessor.
MAX_KEPT_BYTES = 80 * 1024
MULTIPROCESSORS = 132  # Of an H100.
# How a program of each kernel is run; `benchmarks.accelerator` tries others.
LAUNCHES = dict(
    forward=gpu_windows.Launch(num_warps=4),
    backward_keys=gpu_windows.Launch(num_warps=8),
    backward_queries=gpu_windows.Launch(num_warps=8))


Operands = operands_lib.Operands


def refusal(sizes: operands_lib.Sizes) -> str | None:
  """Why the kernels do not serve these sizes; None if they do."""
  if sizes.dtype not in ('float32', 'bfloat16'):
    return f'numbers of type {sizes.dtype}'
  if sizes.text_length:
    return 'keys of a text'
  if sizes.length > MAX_LENGTH:
    return f'windows of {sizes.length} tokens'
  if sizes.head_width > (
      MAX_HEAD if sizes.length <= WHOLE_LENGTH else WHOLE_HEAD):
    return (f'heads of width {sizes.head_width} in windows of {sizes.length} '
            'tokens')
  return None


def reads_grid(sizes: operands_lib.Sizes) -> bool:
  """Any window is read from the grid: programs find tokens by address."""
  del sizes
  return True


def make_problem(
    operands: Operands, window: windows.Window, interpret: bool,
) -> gpu_windows.Problem:
  """How the kernels of a call cut its work."""
  geometry = gpu_tiles.make_geometry(operands.query.shape, window)
  width = sum(piece.size for piece in geometry.pieces)
  wide, long = width > WHOLE_HEAD, geometry.length > WHOLE_LENGTH
  tile = min(TILE, max(gpu_tiles.MIN_EXTENT,
                       pl.next_power_of_2(geometry.length)))
  keys = tile if wide else min(2, geometry.num_tiles(tile)) * tile
  queries = max(tile // 2, gpu_tiles.MIN_EXTENT) if wide or long else tile
  kept = geometry.length * width * 2 * operands.query.dtype.itemsize
  return gpu_windows.Problem(
      geometry, tile, keys, queries,
      use_qk_norm=operands.query_scale is not None,
      use_bias=operands.bias is not None,
      use_identity=operands.is_image is not None,
      keep=kept <= MAX_KEPT_BYTES and not wide, interpret=interpret)


def rows_of_program(batch: int, programs: int) -> int:
  """Rows of the batch that one program of the `queries` kernel visits.

  As many as leave the multiprocessors (almost) as busy as one row would:
  each share of rows costs a table of bias gradients.

  Args:
    batch: Rows of the batch.
    programs: Programs of one share.
  """
  def busy(rows):
    total = programs * (batch // rows)
    return total / (-(-total // MULTIPROCESSORS) * MULTIPROCESSORS)
  divisors = [n for n in range(1, batch + 1) if batch % n == 0]
  enough = .95 * max(busy(n) for n in divisors)
  return max(n for n in divisors if busy(n) >= enough)


def forward(
    operands: Operands, window: windows.Window, interpret: bool,
) -> tuple[jax.Array, jax.Array]:
  """Context, and base-2 log-sums of the logits, float32 [B, N, K, L].

  See `operands.Kernels`.
  """
  problem = make_problem(operands, window, interpret)
  geometry = problem.geometry
  window_spec, table_spec, sums = _window_specs(problem)
  inputs = _inputs(problem, operands, window_spec, table_spec)
  outputs = dict(
      context=(jax.ShapeDtypeStruct(
          geometry.array_shape, operands.value.dtype), window_spec),
      log_sum=(jax.ShapeDtypeStruct(sums, jnp.float32), _sums_spec(problem)))
  out = _call(
      to_context.forward_kernel, 'forward', problem, inputs, outputs)
  return out['context'].reshape(operands.value.shape), out['log_sum']


def backward(
    operands: Operands, context: jax.Array, log_sum: jax.Array,
    cotangent: jax.Array, window: windows.Window, interpret: bool,
) -> Operands:
  """Gradients of the operands; see `operands.Kernels`."""
  problem = make_problem(operands, window, interpret)
  geometry = problem.geometry
  flat = lambda x: x.reshape(geometry.array_shape)
  like = lambda x: jax.ShapeDtypeStruct(geometry.array_shape, x.dtype)
  window_spec, table_spec, sums = _window_specs(problem)
  inputs = _inputs(problem, operands, window_spec, table_spec)
  inputs |= dict(
      context=(flat(context), window_spec),
      d_context=(flat(cotangent), window_spec),
      log_sum=(log_sum, _sums_spec(problem)))
  if problem.use_bias:
    inputs['bias'] = (_bias(operands).swapaxes(1, 2), table_spec)
  outputs = dict(
      d_key=(like(operands.key), window_spec),
      d_value=(like(operands.value), window_spec),
      delta=(jax.ShapeDtypeStruct(sums, jnp.float32), _sums_spec(problem)))
  if problem.use_qk_norm:
    scales = jax.ShapeDtypeStruct((*sums[:3], geometry.head_dim), jnp.float32)
    outputs |= dict(
        normalized_query=(like(operands.query), window_spec),
        normalized_key=(like(operands.key), window_spec),
        d_key_scale=(scales, pl.BlockSpec(
            (None, None, None, geometry.head_dim),
            lambda n, k, b: (b, n, k, 0))))
  out = _call(
      to_operands.keys_kernel, 'backward_keys', problem, inputs, outputs)
  key = flat(operands.key)
  d_key_scale = None
  if problem.use_qk_norm:
    key = out['normalized_key']
    d_key_scale = out['d_key_scale'].sum((0, 1, 2))
  gradients = _queries_backward(
      problem, operands._replace(key=key), flat(cotangent), log_sum,
      out['delta'])
  return gradients._replace(
      key=out['d_key'].reshape(operands.key.shape),
      value=out['d_value'].reshape(operands.value.shape),
      key_scale=d_key_scale)


def _queries_backward(
    problem, operands, d_context, log_sum, delta):
  """Gradients of queries, their scale and the bias, in `Operands`."""
  geometry = problem.geometry
  batch, (t, h, w), heads = geometry.batch, geometry.grid, geometry.heads
  tiles = geometry.num_tiles(problem.queries)
  rows = rows_of_program(batch, heads * tiles)
  parts, length = batch // rows, geometry.length
  dim = geometry.head_dim
  tokens = pl.BlockSpec(
      (rows, t, h, w, None, dim), lambda i, k, p: (p, 0, 0, 0, k, 0))
  sums = pl.BlockSpec(
      (rows, geometry.num_windows, None, length), lambda i, k, p: (p, 0, k, 0))
  flat = lambda x: x.reshape(geometry.array_shape)
  inputs = dict(
      query=(flat(operands.query), tokens), key=(operands.key, tokens),
      value=(flat(operands.value), tokens), d_context=(d_context, tokens),
      log_sum=(log_sum, sums), delta=(delta, sums))
  outputs = dict(d_query=(
      jax.ShapeDtypeStruct(geometry.array_shape, operands.query.dtype),
      tokens))
  if problem.use_qk_norm:
    inputs['query_scale'] = (
        operands.query_scale, pl.BlockSpec((dim,), lambda i, k, p: (0,)))
    outputs['d_query_scale'] = (
        jax.ShapeDtypeStruct((parts, heads, tiles, dim), jnp.float32),
        pl.BlockSpec((None, None, None, dim), lambda i, k, p: (p, k, i, 0)))
  if problem.use_bias:
    inputs['bias'] = (_bias(operands), pl.BlockSpec(
        (None, problem.queries, length), lambda i, k, p: (k, i, 0)))
    outputs['d_bias'] = (
        jax.ShapeDtypeStruct((parts, heads, length, length), jnp.float32),
        pl.BlockSpec((None, None, problem.queries, length),
                     lambda i, k, p: (p, k, i, 0)))
  if problem.use_identity:
    inputs['identity'] = (
        operands.is_image.astype(jnp.int32),
        pl.BlockSpec((rows,), lambda i, k, p: (p,)))

  def kernel(problem, refs):
    to_operands.queries_kernel(problem, pl.program_id(0), rows, refs)

  out = _call(
      kernel, 'backward_queries', problem, inputs, outputs,
      grid=(tiles, heads, parts))
  return Operands(
      query=out['d_query'].reshape(operands.query.shape), key=operands.key,
      value=operands.value,
      query_scale=(out['d_query_scale'].sum((0, 1, 2))
                   if problem.use_qk_norm else None),
      bias=out['d_bias'].sum(0) if problem.use_bias else None)


def _bias(operands: Operands) -> jax.Array:
  """The bias over the scale of the logits.

  In float16 beside half-precision queries: it is read once a window, and
  bfloat16 would round logits by as much as all else together.
  """
  bias = operands.bias * operands.query.shape[-1] ** .5
  if operands.query.dtype == jnp.float32:
    return bias
  largest = jnp.finfo(jnp.float16).max
  return jnp.clip(bias, -largest, largest).astype(jnp.float16)


def _window_specs(problem):
  """Blocks of programs (window, head, row): tokens, table; shape of sums."""
  geometry = problem.geometry
  tokens = pl.BlockSpec(
      (None, *geometry.window, None, geometry.head_dim),
      lambda n, k, b: (b, *geometry.window_index(n), k, 0))
  table = pl.BlockSpec((None, geometry.length, geometry.length),
                       lambda n, k, b: (k, 0, 0))
  sums = (geometry.batch, geometry.num_windows, geometry.heads,
          geometry.length)
  return tokens, table, sums


def _sums_spec(problem):
  return pl.BlockSpec((None, None, None, problem.geometry.length),
                      lambda n, k, b: (b, n, k, 0))


def _inputs(problem, operands, window_spec, table_spec):
  """Operands with the blocks of programs (window, head, row)."""
  geometry = problem.geometry
  flat = lambda x: x.reshape(geometry.array_shape)
  inputs = dict(query=(flat(operands.query), window_spec),
                key=(flat(operands.key), window_spec),
                value=(flat(operands.value), window_spec))
  if problem.use_qk_norm:
    spec = pl.BlockSpec((geometry.head_dim,), lambda n, k, b: (0,))
    inputs |= dict(query_scale=(operands.query_scale, spec),
                   key_scale=(operands.key_scale, spec))
  if problem.use_bias:
    inputs['bias'] = (_bias(operands), table_spec)
  if problem.use_identity:
    inputs['identity'] = (
        operands.is_image.astype(jnp.int32),
        pl.BlockSpec((None,), lambda n, k, b: (b,)))
  return inputs


def _call(kernel, name, problem, inputs, outputs, *, grid=None):
  """Runs a kernel on named arrays, each with its block; named results."""
  geometry, launch = problem.geometry, LAUNCHES[name]
  names = (*inputs, *outputs)

  def body(*refs):
    bound = dict.fromkeys(('query_scale', 'key_scale', 'bias', 'identity'))
    kernel(problem, types.SimpleNamespace(
        **bound | dict(zip(names, refs, strict=True))))

  out = pl.pallas_call(
      body, name=f'window_attention_{name}', interpret=problem.interpret,
      grid=grid or (geometry.num_windows, geometry.heads, geometry.batch),
      in_specs=[spec for _, spec in inputs.values()],
      out_specs=[spec for _, spec in outputs.values()],
      out_shape=[shape for shape, _ in outputs.values()],
      compiler_params=plgpu.CompilerParams(
          num_warps=launch.num_warps, num_stages=launch.num_stages),
  )(*(array for array, _ in inputs.values()))
  return dict(zip(outputs, out, strict=True))
