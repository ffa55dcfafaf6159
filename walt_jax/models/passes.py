"""Passes over tokens between products: residual sums, norms, GELU.

Each is one function with several forms. 'plain' is the definition, which XLA
differentiates and fuses as it can. 'triton' runs kernels with hand-written
backward passes, for NVIDIA GPUs: no float32 tensor of tokens and no sum over
tokens takes a pass of its own.
"""
from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
from jax import ad_checkpoint
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from walt_jax.models import attention
from walt_jax.models import branches
from walt_jax.models import mesh_axes
from walt_jax.models import modulation
from walt_jax.models import remat
from walt_jax.models.kernels import passes_gpu

# 'triton_interpret' interprets the kernels, on a CPU, for tests.
FORMS = ('plain', 'triton', 'triton_interpret')


def norm(x: jax.Array, shift: jax.Array, scale: jax.Array, dtype: jnp.dtype,
         form: str) -> tuple[jax.Array, jax.Array]:
  """The tokens, for the residual, and their modulated norm.

  Args:
    x: Tokens [B, T, H, W, D].
    shift: [B, F, D]; F = 1, or T.
    scale: [B, F, D]; the norm is multiplied by 1 + scale.
    dtype: Type of the norm.
    form: One of `FORMS`.

  Returns:
    x as it is, and the norm. What reads x later should take it from here:
    then its gradient joins that of the norm in one pass.
  """
  if form == 'plain':
    return x, _plain_norm(x, shift, scale, dtype)
  return _norm(dict(x=x, shift=shift, scale=scale), dtype, form)


def sum_norm(
    x: jax.Array, branch: branches.Branch, gate: jax.Array, shift: jax.Array,
    scale: jax.Array, dtype: jnp.dtype, form: str
) -> tuple[jax.Array, jax.Array]:
  """The residual sum x + gate y in the type of x, and its modulated norm.

  y is the branch with its bias, `gate` [B, F, D]; the rest as in `norm`.
  """
  if form == 'plain':
    x = residual_sum(x, branch, gate, form)
    return x, _plain_norm(x, shift, scale, dtype)
  return _norm(
      dict(x=x, gate=gate, shift=shift, scale=scale) | _addends(branch),
      dtype, form, branch.name)


def residual_sum(
    x: jax.Array, branch: branches.Branch, gate: jax.Array, form: str
) -> jax.Array:
  """x + gate y in the type of x; see `sum_norm`."""
  if form == 'plain':
    y = (branch.values if branch.bias is None
         else branch.values + branch.bias)
    return (x + modulation.per_token(gate) * y).astype(x.dtype)
  return _norm(
      dict(x=x, gate=gate) | _addends(branch), x.dtype, form, branch.name)[0]


def _addends(branch: branches.Branch) -> dict[str, jax.Array]:
  if branch.bias is None:
    return dict(y=branch.values)
  return dict(y=branch.values, bias=branch.bias)


def gelu_product(
    hidden: jax.Array, bias: jax.Array, kernel: jax.Array, form: str,
    keeps_activation: bool) -> jax.Array:
  """GELU(hidden + bias) @ kernel.

  On a GPU the product that `hidden` is takes bias and GELU on its way out;
  only the gradient is a kernel.

  Args:
    hidden: [B, T, H, W, M], a product.
    bias: [M].
    kernel: [M, D], in the type of `hidden`.
    form: One of `FORMS` but 'plain'.
    keeps_activation: Whether GELU's result is kept for the backward pass;
      else its kernel computes it again from the sum of `hidden` and `bias`.

  Returns:
    [B, T, H, W, D].
  """
  return _gelu_product(hidden, bias, kernel, form, keeps_activation)


def _plain_norm(x, shift, scale, dtype):
  normal = nn.LayerNorm(
      epsilon=attention.NORM_EPSILON, use_bias=False, use_scale=False,
      dtype=jnp.float32, parent=None).apply({}, x)
  return modulation.modulate(normal, shift, scale).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _norm(inputs, dtype, form, name=''):
  return _norm_forward(inputs, dtype, form, name)[0]


def _norm_forward(inputs, dtype, form, name):
  x, has_bias = inputs['x'], 'bias' in inputs
  if has_bias:
    # A product takes it on its way out.
    y = ad_checkpoint.checkpoint_name(inputs['y'] + inputs['bias'], name)
    y = ad_checkpoint.checkpoint_name(y, remat.PASS_RESULT)
    inputs = {key: value for key, value in inputs.items()
              if key != 'bias'} | dict(y=y)
  outputs = (['sum'] if 'y' in inputs else []) + (
      ['norm'] if 'shift' in inputs else [])
  out = _on_shards(
      functools.partial(passes_gpu.sum_norm, dtype=dtype), inputs,
      dict.fromkeys(outputs, 5), None, form)
  out = {key: ad_checkpoint.checkpoint_name(value, remat.PASS_RESULT)
         for key, value in out.items()}
  kept = {key: value for key, value in inputs.items()
          if key in ('y', 'gate', 'scale')}
  total = out.get('sum', x)
  if 'norm' in out:
    kept['x'] = total
  # An empty array says in whose type the gradient of the bias is.
  return (total, out.get('norm')), (
      kept, jnp.zeros((0,), y.dtype) if has_bias else None)


def _norm_backward(dtype, form, name, residuals, cotangents):
  del dtype, name
  kept, of_bias = residuals
  d_sum, d_norm = cotangents
  inputs = dict(kept, d_sum=d_sum)
  outputs = {}
  if 'x' in kept:
    inputs['d_norm'] = d_norm
    outputs |= dict(d_x=5, shift=3, scale=3)
  if 'y' in kept:
    outputs |= dict(d_y=5, gate=3)
  if of_bias is not None:
    outputs |= dict(bias=3)
  out = _on_shards(passes_gpu.sum_norm_backward, inputs, outputs, None, form)
  gradients = dict(x=out.get('d_x', d_sum))
  if 'd_y' in out:
    gradients |= dict(y=out['d_y'], gate=out['gate'])
  if of_bias is not None:
    gradients |= dict(bias=out['bias'].sum((0, 1)).astype(of_bias.dtype))
  if 'shift' in out:
    gradients |= dict(shift=out['shift'], scale=out['scale'])
  return (gradients,)


_norm.defvjp(_norm_forward, _norm_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _gelu_product(hidden, bias, kernel, form, keeps_activation):
  return _gelu_product_forward(
      hidden, bias, kernel, form, keeps_activation)[0]


def _gelu_product_forward(hidden, bias, kernel, form, keeps_activation):
  del form
  # As rows, and without what has a name: between a product and its GELU XLA
  # bears neither a reshape nor the rounding of what a policy keeps.
  rows = hidden.reshape(-1, hidden.shape[-1]) + bias
  out = jax.nn.gelu(rows, approximate=True).reshape(hidden.shape)
  y = jnp.einsum('bthwm,md->bthwd', out, kernel)
  rows = ad_checkpoint.checkpoint_name(rows, remat.MLP_HIDDEN)
  rows = ad_checkpoint.checkpoint_name(rows, remat.PASS_RESULT)
  if keeps_activation:
    out = ad_checkpoint.checkpoint_name(out, remat.PASS_RESULT)
  return y, (rows.reshape(hidden.shape), out if keeps_activation else None,
             kernel, jnp.zeros((0,), bias.dtype))


def _gelu_product_backward(form, keeps_activation, kept, d_y):
  hidden, out, kernel, of_bias = kept
  d_out = jnp.einsum('bthwd,md->bthwm', d_y, kernel)
  outputs = dict(d_hidden=5, bias=3)
  if not keeps_activation:
    outputs['out'] = 5
  back = _on_shards(
      functools.partial(
          passes_gpu.gelu_backward, with_out=not keeps_activation),
      dict(hidden=hidden, d_out=d_out), outputs, 'mlp', form)
  d_kernel = jnp.einsum(
      'bthwm,bthwd->md', out if keeps_activation else back['out'], d_y)
  return (back['d_hidden'], back['bias'].sum((0, 1)).astype(of_bias.dtype),
          d_kernel)


_gelu_product.defvjp(_gelu_product_forward, _gelu_product_backward)


def _on_shards(
    call: Callable[..., Any], inputs: dict[str, jax.Array],
    outputs: dict[str, int], columns: str | None, form: str
) -> dict[str, jax.Array]:
  """Runs kernels on each shard of the mesh, if there is one.

  Args:
    call: `call(inputs, interpret=)` for tokens [G, R, D] and vectors [G, D].
    inputs: Tokens [B, T, H, W, D], vectors [B, F, D] and [D].
    outputs: Number of axes of each result.
    columns: Logical axis of D, or None where it is whole.
    form: The form of the kernels.
  """
  interpret = form == 'triton_interpret'
  grid = next(x.shape for x in inputs.values() if x.ndim == 5)
  frames = max([x.shape[1] for x in inputs.values() if x.ndim == 3] or [1])

  def run(inputs):
    rows = next(x.shape[0] for x in inputs.values() if x.ndim == 5)
    width = next(x.shape[-1] for x in inputs.values() if x.ndim == 5)
    shapes = {5: (rows * frames, -1, width), 3: (rows * frames, width),
              1: (width,)}
    out = call({key: x.reshape(shapes[x.ndim]) for key, x in inputs.items()},
               interpret=interpret)
    shapes = {5: (rows, *grid[1:-1], width), 3: (rows, frames, width)}
    return {key: out[key].reshape(shapes[ndim])
            for key, ndim in outputs.items()}

  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return run(inputs)
  batch, last = (
      mesh_axes.cut(mesh, axis, size) for axis, size in (
          ('batch', grid[0]), (columns, grid[-1])))
  specs = {5: P(batch, None, None, None, last), 3: P(batch, None, last),
           1: P(last)}
  return jax.shard_map(
      run, in_specs=({key: specs[x.ndim] for key, x in inputs.items()},),
      out_specs={key: specs[ndim] for key, ndim in outputs.items()},
      axis_names=mesh_axes.free(mesh), check_vma=False)(inputs)
