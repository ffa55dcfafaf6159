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

# Sizes and launches are those that were fastest on an H200 (`python -m
# benchmarks.accelerator`, case `block_sizes`).
TILE = 64  # Queries and keys of a product.
# Of the forward kernel in windows of more than `SHORT` tokens.
LONG_TILE, SHORT = 128, 256
WHOLE_HEAD = 64  # Of wider heads registers hold half as many queries.
MAX_HEAD, MAX_LENGTH = 96, 1024
# Of keys and values of one window that stay on the chip in the forward kernel.
MAX_KEPT_BYTES = 80 * 1024
LAUNCHES = dict(
    forward=gpu_windows.Launch(num_warps=4),
    forward_long=gpu_windows.Launch(num_warps=8),
    backward_keys=gpu_windows.Launch(num_warps=4, num_stages=3),
    backward_keys_wide=gpu_windows.Launch(num_warps=8, num_stages=3),
    backward_queries=gpu_windows.Launch(num_warps=4, num_stages=3))


Operands = operands_lib.Operands


def refusal(sizes: operands_lib.Sizes) -> str | None:
  """Why the kernels do not serve these sizes; None if they do."""
  if sizes.dtype not in ('float32', 'bfloat16'):
    return f'numbers of type {sizes.dtype}'
  if sizes.text_length:
    return 'keys of a text'
  if sizes.length > MAX_LENGTH:
    return f'windows of {sizes.length} tokens'
  if sizes.head_width > MAX_HEAD:
    return f'heads of width {sizes.head_width}'
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
  fits = lambda size: min(size, max(
      gpu_tiles.MIN_EXTENT, pl.next_power_of_2(geometry.length)))
  wide = _is_wide(geometry)
  half = max(fits(TILE) // 2, gpu_tiles.MIN_EXTENT)
  long = geometry.length > SHORT and not wide
  kept = geometry.length * width * 2 * operands.query.dtype.itemsize
  return gpu_windows.Problem(
      geometry, fits(LONG_TILE if long else TILE), fits(TILE), half,
      half if wide else fits(TILE),
      use_qk_norm=operands.query_scale is not None,
      use_bias=operands.bias is not None,
      use_identity=operands.is_image is not None,
      keep=kept <= MAX_KEPT_BYTES and not wide, interpret=interpret)


def _is_wide(geometry):
  return sum(piece.size for piece in geometry.pieces) > WHOLE_HEAD


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
      to_context.forward_kernel, 'forward', problem, inputs, outputs,
      LAUNCHES['forward_long' if problem.tile > TILE else 'forward'])
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
  outputs['d_logits'] = (
      jax.ShapeDtypeStruct((*sums, geometry.length), operands.query.dtype),
      _logits_spec(problem))
  if problem.use_qk_norm:
    outputs |= dict(
        normalized_query=(like(operands.query), window_spec),
        normalized_key=(like(operands.key), window_spec),
        d_key_scale=_scale_output(problem, sums))
  out = _call(
      to_operands.keys_kernel, 'backward_keys', problem, inputs, outputs,
      LAUNCHES['backward_keys_wide' if _is_wide(geometry) else
               'backward_keys'])
  key = flat(operands.key)
  d_key_scale = None
  if problem.use_qk_norm:
    key = out['normalized_key']
    d_key_scale = out['d_key_scale'].sum((0, 1, 2))
  found = _queries_backward(
      problem, operands._replace(key=key), out['d_logits'])
  return operands_lib.Operands(
      query=found['d_query'].reshape(operands.query.shape),
      key=out['d_key'].reshape(operands.key.shape),
      value=out['d_value'].reshape(operands.value.shape),
      query_scale=(found['d_query_scale'].sum((0, 1, 2))
                   if problem.use_qk_norm else None),
      key_scale=d_key_scale,
      bias=_bias_gradient(operands, out['d_logits']))


def _queries_backward(problem, operands, d_logits):
  """Gradients of queries and their scale, by name."""
  geometry = problem.geometry
  window_spec, _, sums = _window_specs(problem)
  given = _inputs(problem, operands, window_spec, None)
  inputs = {name: given[name] for name in (
      'query', 'key', 'query_scale', 'identity') if name in given}
  inputs['d_logits'] = (d_logits, _logits_spec(problem))
  outputs = dict(d_query=(
      jax.ShapeDtypeStruct(geometry.array_shape, operands.query.dtype),
      window_spec))
  if problem.use_qk_norm:
    outputs['d_query_scale'] = _scale_output(problem, sums)
  return _call(
      to_operands.queries_kernel, 'backward_queries', problem, inputs, outputs,
      LAUNCHES['backward_queries'])


def _bias_gradient(operands, d_logits):
  """Sums over windows, float32 [K, L, L] of queries by keys."""
  if operands.bias is None:
    return None
  if operands.is_image is not None:  # Their programs write nothing.
    is_image = operands.is_image[:, None, None, None, None]
    d_logits = jnp.where(is_image, 0, d_logits)
  return d_logits.sum((0, 1), dtype=jnp.float32).swapaxes(1, 2)


def _bias(operands: Operands) -> jax.Array:
  """The bias of logits in base two.

  In float16 beside half-precision queries: it is read once a window, and
  bfloat16 would round logits by as much as all else together.
  """
  bias = operands.bias * gpu_windows.LOG2_E
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


def _scale_output(problem, sums):
  """Shape and block of the gradient of a scale, a row a program."""
  dim = problem.geometry.head_dim
  return (jax.ShapeDtypeStruct((*sums[:3], dim), jnp.float32),
          pl.BlockSpec((None, None, None, dim), lambda n, k, b: (b, n, k, 0)))


def _logits_spec(problem):
  length = problem.geometry.length
  return pl.BlockSpec((None, None, None, length, length),
                      lambda n, k, b: (b, n, k, 0, 0))


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


def _call(kernel, name, problem, inputs, outputs, launch):
  """Runs a kernel on named arrays, each with its block; named results."""
  geometry = problem.geometry
  names = (*inputs, *outputs)

  def body(*refs):
    bound = dict.fromkeys(('query_scale', 'key_scale', 'bias', 'identity'))
    kernel(problem, types.SimpleNamespace(
        **bound | dict(zip(names, refs, strict=True))))

  out = pl.pallas_call(
      body, name=f'window_attention_{name}', interpret=problem.interpret,
      grid=(geometry.num_windows, geometry.heads, geometry.batch),
      in_specs=[spec for _, spec in inputs.values()],
      out_specs=[spec for _, spec in outputs.values()],
      out_shape=[shape for shape, _ in outputs.values()],
      compiler_params=plgpu.CompilerParams(
          num_warps=launch.num_warps, num_stages=launch.num_stages),
  )(*(array for array, _ in inputs.values()))
  return dict(zip(outputs, out, strict=True))
