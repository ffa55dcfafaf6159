"""Whether fused kernels equal the plain form on this device, and their time.

  python -m benchmarks.accelerator.kernels --form fused_gpu --size l

Values and all gradients of both windows, with QK norm, bias and rows of images:
float32 against the plain form, bfloat16 against float32, each as a share of the
largest value. On the device, where products may be rounded otherwise than in
the interpreted kernels that the tests compare.
"""
import argparse
from collections.abc import Callable
import json
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.accelerator import programs
from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import operands as operands_lib

_REPEATS = 20


def windows_of(size: programs.Size) -> dict[str, tuple[int, int, int]]:
  """The windows of a size's layers."""
  half = size.side // 2
  return dict(spatial=(1, size.side, size.side),
              spacetime=(size.latents[0], half, half))


def draw_operands(size: programs.Size, window: tuple[int, int, int],
                  dtype: Any) -> operands_lib.Operands:
  """Random operands of one layer of a size, a quarter of its rows images."""
  length = window[0] * window[1] * window[2]
  head = size.width // size.heads
  shape = (size.rows, *size.latents[:3], size.heads, head)
  keys = jax.random.split(jax.random.key(0), 6)
  query, key, value = (
      jax.random.normal(k, shape).astype(dtype) for k in keys[:3])
  scales = 1 + 0.1 * jax.random.normal(keys[3], (2, head))
  return operands_lib.Operands(
      query, key, value, scales[0], scales[1],
      0.1 * jax.random.normal(keys[4], (size.heads, length, length)),
      jnp.arange(size.rows) % 4 == 3)


def compare(size: programs.Size, window: tuple[int, int, int], form: str
            ) -> dict[str, Any]:
  """Errors of a form, and milliseconds of a layer's forward and backward."""
  wide = draw_operands(size, window, jnp.float32)
  narrow = draw_operands(size, window, jnp.bfloat16)
  head = size.width // size.heads
  sizes = lambda dtype: operands_lib.Sizes(
      size.latents[:3], window, size.heads, head, 0, dtype)
  for dtype in ('float32', 'bfloat16'):
    reason = fused_attention.refusal(form, sizes(dtype))
    if reason:
      return dict(refused=reason)
  plain = fused_attention.PLAIN_FORM
  # A chip may multiply float32 in fewer bits unless told not to.
  with jax.default_matmul_precision('highest'):
    truth = jax.jit(results(plain, window))(wide)
    exact = _errors(jax.jit(results(form, window))(wide), truth)
  same_inputs = jax.tree.map(lambda x: x.astype(jnp.float32)
                             if x.dtype == jnp.bfloat16 else x, narrow)
  with jax.default_matmul_precision('highest'):
    truth = jax.jit(results(plain, window))(same_inputs)
  rounded = {name: _errors(jax.jit(results(name, window))(narrow), truth)
             for name in (form, plain)}
  return dict(
      float32_error=exact, bfloat16_error=rounded[form],
      plain_bfloat16_error=rounded[plain],
      ms={name: _milliseconds(jax.jit(results(name, window)), narrow)
          for name in (form, plain)})


def results(form: str, window: tuple[int, int, int]
            ) -> Callable[[operands_lib.Operands], dict[str, jax.Array]]:
  """A function: the context and the gradients of all operands but flags."""
  def run(operands):
    def loss(floats):
      context = fused_attention.attend(
          floats._replace(is_image=operands.is_image), window, form)
      return (context.astype(jnp.float32) * weights).sum(), context

    weights = jax.random.normal(jax.random.key(7), operands.query.shape)
    grads, context = jax.grad(loss, has_aux=True)(
        operands._replace(is_image=None))
    return dict(context=context, **{
        name: value for name, value in grads._asdict().items()
        if value is not None})

  return run


def _errors(found, truth) -> dict[str, dict[str, float]]:
  """Errors of each result, as shares: the largest, and root mean squares."""
  def shares(a, b):
    error, b = a.astype(jnp.float32) - b, b.astype(jnp.float32)
    size = lambda x: jnp.sqrt(jnp.square(x).mean())
    return dict(largest=float(jnp.abs(error).max() / jnp.abs(b).max()),
                rms=float(size(error) / size(b)))

  return {name: shares(found[name], truth[name]) for name in truth}


def _milliseconds(run, operands) -> float:
  jax.block_until_ready(run(operands))
  times = []
  for _ in range(_REPEATS):
    began = time.perf_counter()
    jax.block_until_ready(run(operands))
    times.append(1e3 * (time.perf_counter() - began))
  return round(statistics.median(times), 3)


def main() -> None:
  """Prints one row."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--form', required=True)
  parser.add_argument('--size', choices=programs.SIZES, required=True)
  args = parser.parse_args()
  size = programs.SIZES[args.size]
  print(json.dumps(
      dict(device=jax.devices()[0].device_kind, jax=jax.__version__)
      | {name: compare(size, window, args.form)
         for name, window in windows_of(size).items()}), flush=True)


if __name__ == '__main__':
  main()
