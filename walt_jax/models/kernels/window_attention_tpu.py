"""Window attention as Pallas kernels for TPUs (Mosaic); see `tpu_layout`.

Logits stay in VMEM. The forward pass writes the context and the logarithm of
each query's sum of exponentials; the backward pass computes the weights again
from them, and sums the gradients of bias and scales over all windows.
"""
import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from walt_jax.models import windows
from walt_jax.models.kernels import operands as operands_lib
from walt_jax.models.kernels import tpu_kernels
from walt_jax.models.kernels import tpu_layout

LANES = tpu_layout.LANES
Operands = operands_lib.Operands
Plan = tpu_layout.Plan
_MAX_LENGTH = 1024


def refusal(sizes: operands_lib.Sizes) -> str | None:
  """Why the kernels do not serve these sizes; None if they do."""
  if sizes.dtype not in ('float32', 'bfloat16'):
    return f'numbers of type {sizes.dtype}'
  if sizes.length % 16 or sizes.length > _MAX_LENGTH:
    return f'windows of {sizes.length} tokens'
  if sizes.head_width > LANES or sizes.head_width % tpu_layout.SUBLANES:
    return f'heads of width {sizes.head_width}'
  # Attention to a text has no bias.
  plan = _plan(sizes, batch=1, num_texts=1, has_bias=not sizes.text_length,
               is_backward=True)
  if not plan.group:
    return (f'{sizes.num_heads} heads of width {sizes.head_width} with '
            f'windows of {sizes.length} tokens')
  return None


def reads_grid(sizes: operands_lib.Sizes) -> bool:
  """Whether windows are read from the grid: where they are whole tiles."""
  grid, window = tpu_layout.merged(sizes.grid, sizes.window)
  return window[2] in (grid[2], sizes.length) or not (
      window[2] % tpu_layout.SUBLANES)


def _plan(sizes: operands_lib.Sizes, batch: int, num_texts: int,
          has_bias: bool, is_backward: bool) -> Plan:
  grid, window = tpu_layout.merged(sizes.grid, sizes.window)
  return Plan(
      batch, grid, window, sizes.num_heads, sizes.head_width,
      has_bias, sizes.text_length, num_texts, jnp.dtype(sizes.dtype).itemsize,
      is_backward)


def _plan_of(operands: Operands, window: windows.Window, is_backward: bool
             ) -> Plan:
  batch, frames, rows, columns, heads, width = operands.query.shape
  num_texts, text_length = (
      (1, 0) if operands.text_key is None else operands.text_key.shape[1:3])
  return _plan(
      operands_lib.Sizes(
          (frames, rows, columns), window, heads, width, text_length,
          operands.query.dtype.name), batch, num_texts,
      operands.bias is not None, is_backward)


def forward(operands: Operands, window: windows.Window, interpret: bool,
            ) -> tuple[jax.Array, jax.Array]:
  """The context, and log sums to the base two [B, N, groups, K / groups, 1,
  L]."""
  plan = _plan_of(operands, window, is_backward=False)
  arrays, specs = _inputs(plan, operands)
  value = arrays['value']
  context, log_sum = _call(
      tpu_kernels.forward, plan, arrays, specs,
      dict(context=_written(plan, value),
           log_sum=jax.ShapeDtypeStruct(
               (plan.batch, plan.num_windows, plan.steps[1], plan.group, 1,
                plan.length), jnp.float32)),
      dict(context=plan.tokens(written=True), log_sum=plan.log_sum()),
      interpret)
  return plan.joined(context).reshape(operands.value.shape), log_sum


def backward(
    operands: Operands, context: jax.Array, log_sum: jax.Array,
    cotangent: jax.Array, window: windows.Window, interpret: bool,
) -> Operands:
  """Gradients of the operands."""
  plan = _plan_of(operands, window, is_backward=True)
  arrays, specs = _inputs(plan, operands)
  # The groups of the forward pass may be others.
  log_sum = log_sum.reshape(
      plan.batch, plan.num_windows, plan.steps[1], plan.group, 1, plan.length)
  arrays |= dict(context=plan.cut(context), cotangent=plan.cut(cotangent),
                 log_sum=log_sum)
  specs |= dict(context=plan.tokens(), cotangent=plan.tokens(),
                log_sum=plan.log_sum())
  shapes, out_specs = {}, {}
  shared = dict(query_scale=(plan.width, 1), key_scale=(plan.width, 1),
                bias=(plan.group, plan.length, plan.length))
  for name in Operands._fields:
    if name not in specs or name == 'text_mask':
      continue
    if name in shared:
      shapes[name] = jax.ShapeDtypeStruct(
          (*plan.steps[:2], *shared[name]), jnp.float32)
      out_specs[name] = plan.shared(*shared[name])
    else:
      shapes[name] = _written(plan, arrays[name])
      out_specs[name] = (plan.text(written=True) if name.startswith('text')
                         else plan.tokens(written=True))
  found = dict(zip(shapes, _call(
      tpu_kernels.backward, plan, arrays, specs,
      {f'd_{name}': shape for name, shape in shapes.items()},
      {f'd_{name}': spec for name, spec in out_specs.items()}, interpret),
      strict=True))

  def gradient(name: str, operand: jax.Array) -> jax.Array | None:
    if name not in found:
      return None
    x = found[name]
    if name == 'bias':
      x = x.sum(0).reshape(operand.shape).swapaxes(1, 2)
    elif name in shared:
      x = x.sum((0, 1))
    else:
      x = plan.joined(x)
    return x.reshape(operand.shape)

  return Operands(**{
      name: gradient(name, operand)
      for name, operand in operands._asdict().items()})


def _written(plan: Plan, x: jax.Array) -> jax.ShapeDtypeStruct:
  """Shape of what steps write of an array of `x`'s shape."""
  lanes = x.shape[-1] if plan.is_aligned else plan.steps[1] * plan.span
  return jax.ShapeDtypeStruct((*x.shape[:-1], lanes), x.dtype)


def _inputs(plan: Plan, operands: Operands
            ) -> tuple[dict[str, jax.Array], dict[str, pl.BlockSpec]]:
  """Arrays as the kernels read them and their blocks, by operands' names."""
  arrays, specs = {}, {}
  for name, x in operands._asdict().items():
    if x is None or name == 'is_image':
      continue
    if name in ('query', 'key', 'value'):
      x, spec = plan.cut(x), plan.tokens()
    elif name.endswith('_scale'):
      x, spec = x[:, None], plan.scale()
    elif name == 'bias':
      x, spec = tpu_kernels.LOG2_E * x.swapaxes(1, 2), plan.bias()
    elif name == 'text_mask':
      x = jnp.where(x, 0.0, tpu_kernels.HIDDEN)[..., None]
      x, spec = jnp.broadcast_to(x, (*x.shape[:-1], LANES)), plan.text_mask()
    else:
      x, spec = plan.filled(x.reshape(*x.shape[:3], -1)), plan.text()
    arrays[name], specs[name] = x, spec
  arrays['is_image'] = (
      jnp.zeros(plan.batch, jnp.int32) if operands.is_image is None
      else operands.is_image.astype(jnp.int32))
  return arrays, specs


def _call(kernel: Any, plan: Plan, arrays: dict[str, jax.Array],
          specs: dict[str, pl.BlockSpec],
          out_shapes: dict[str, jax.ShapeDtypeStruct],
          out_specs: dict[str, pl.BlockSpec], interpret: bool
          ) -> tuple[jax.Array, ...]:
  scratch = plan.scratch()
  return pl.pallas_call(
      functools.partial(kernel, plan, (*specs, *out_specs, *scratch)),
      out_shape=tuple(out_shapes.values()),
      grid_spec=pltpu.PrefetchScalarGridSpec(
          num_scalar_prefetch=1, grid=plan.steps, in_specs=list(specs.values()),
          out_specs=tuple(out_specs.values()),
          scratch_shapes=[pltpu.VMEM(shape, jnp.float32)
                          for shape in scratch.values()]),
      compiler_params=pltpu.CompilerParams(
          dimension_semantics=(
              pltpu.PARALLEL, pltpu.PARALLEL, pltpu.ARBITRARY,
              pltpu.ARBITRARY),
          vmem_limit_bytes=tpu_layout.VMEM_LIMIT),
      name=f'window_attention_{kernel.__name__}', interpret=interpret,
  )(arrays['is_image'], *(arrays[name] for name in specs))
