"""Whether the fused kernels would be faster in other blocks on this device.

  python -m benchmarks.accelerator.block_sizes --size l

Prints a
row with the microseconds of every kernel by choice, from the profiler; a choice
that does not compile says why.
"""
import argparse
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
import contextlib
import dataclasses
import json
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks.accelerator import kernels
from benchmarks.accelerator import profiles
from benchmarks.accelerator import programs
from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import gpu_windows
from walt_jax.models.kernels import passes_gpu
from walt_jax.models.kernels import window_attention_gpu

_STEPS = 3
_OURS = ('window_attention_forward', 'window_attention_backward_keys',
         'window_attention_backward_queries', 'sum_norm_backward', 'sum_norm',
         'gelu_backward')
# Tiles of a problem; warps and stages of the forward and backward kernels. A
# choice of every kernel at once, each of which is timed by itself.
_ATTENTION = (
    dict(),
    dict(tile=64, keys=64, keys_queries=32, queries=32, warps=(4, 4, 4),
         stages=2),
    dict(tile=64, keys=64, keys_queries=64, queries=64, warps=(8, 4, 4),
         stages=2),
    dict(tile=64, keys=64, keys_queries=64, queries=64, warps=(4, 4, 8),
         stages=3),
    dict(tile=128, keys=128, keys_queries=64, queries=64, warps=(8, 8, 8),
         stages=2),
    dict(tile=128, keys=64, keys_queries=128, queries=128, warps=(8, 8, 8),
         stages=3, keep=False),
    dict(tile=64, keys=64, keys_queries=32, queries=64, warps=(4, 4, 4),
         stages=4, keep=False),
    dict(tile=64, keys=128, keys_queries=32, queries=32, warps=(4, 8, 2),
         stages=3, keep=True),
)
_PASSES = tuple(
    dict(MAX_TOKENS=tokens, ROWS=rows, WARPS=warps)
    for tokens, rows, warps in (
        (40, 1, 4), (40, 1, 1), (40, 4, 4), (40, 2, 8), (40, 4, 8), (20, 4, 4),
        (16, 4, 4), (16, 2, 2), (80, 4, 8), (64, 8, 8)))


def attention_choices() -> Iterator[tuple[str, dict[str, Any]]]:
  """(name, attributes of the module), the default first."""
  for tiles in _ATTENTION:
    yield str(tiles or 'default'), _choice(**tiles) if tiles else {}


def _choice(warps: tuple[int, int, int], stages: int, **tiles: Any
            ) -> dict[str, Any]:
  forward, keys, queries = (
      gpu_windows.Launch(number, stages) for number in warps)
  make = window_attention_gpu.make_problem
  return dict(
      make_problem=lambda *given: dataclasses.replace(make(*given), **tiles),
      LAUNCHES=dict(forward=forward, forward_long=forward, backward_keys=keys,
                    backward_keys_wide=keys, backward_queries=queries))


def pass_choices() -> Iterator[tuple[str, dict[str, Any]]]:
  """(name, attributes of the module), the default first."""
  yield 'default', {}
  for choice in _PASSES:
    yield ', '.join(f'{key} {value}' for key, value in choice.items()), choice


def attention_program(size: programs.Size, window: tuple[int, int, int],
                      form: str) -> tuple[Callable, Any]:
  """Value and gradients of a layer's attention, and its operands."""
  return (kernels.results(form, window),
          kernels.draw_operands(size, window, jnp.bfloat16))


def pass_program(size: programs.Size, interpret: bool
                 ) -> tuple[Callable, Any]:
  """The passes of a layer's MLP, forward and backward, and their inputs."""
  tokens = size.latents[0] * size.latents[1] * size.latents[2]
  draw = lambda number, *shape: jax.random.normal(
      jax.random.key(number), shape).astype(jnp.bfloat16)
  token = lambda number: draw(number, size.rows, tokens, size.width)
  hidden = lambda number: draw(number, size.rows, tokens, 4 * size.width)
  vectors = {name: draw(number, size.rows, size.width)
             for number, name in enumerate(('gate', 'shift', 'scale'))}
  inputs = dict(vectors=vectors, x=token(3), y=token(4), d_sum=token(5),
                d_norm=token(6), hidden=hidden(7), d_out=hidden(8))

  def run(given):
    x, y = given['x'], given['y']
    backward = {name: given['vectors'][name] for name in ('gate', 'scale')}
    return (
        passes_gpu.sum_norm(given['vectors'] | dict(x=x, y=y), jnp.bfloat16,
                            interpret=interpret),
        passes_gpu.sum_norm_backward(
            backward | dict(x=x, y=y, d_sum=given['d_sum'],
                            d_norm=given['d_norm']), interpret=interpret),
        passes_gpu.gelu_backward(
            dict(hidden=given['hidden'], d_out=given['d_out']),
            with_out=False, interpret=interpret))

  return run, inputs


def sweep(module: Any, choices: Iterator[tuple[str, Mapping[str, Any]]],
          make: Callable[[], tuple[Callable, Any]],
          plain: Callable | None = None) -> dict[str, Any]:
  """Times a program with each choice of a module's attributes.

  Args:
    module: Where the attributes are.
    choices: Names and attributes.
    make: Makes the program, not yet jitted, and its inputs.
    plain: The same without kernels, to hold results against; None: the first
      choice.
  """
  lowered, inputs = {}, None
  for name, attributes in choices:
    with contextlib.ExitStack() as stack:
      for key, value in attributes.items():
        stack.enter_context(mock.patch.object(module, key, value))
      program, inputs = make()
      lowered[name] = _try(lambda p=program, i=inputs: jax.jit(p).lower(i))
  compiles = lambda found: found if isinstance(found, dict) else _try(
      found.compile)
  with futures.ThreadPoolExecutor() as pool:
    compiled = dict(zip(lowered, pool.map(compiles, lowered.values()),
                        strict=True))
  truth = (jax.jit(plain) if plain else next(iter(compiled.values())))(inputs)
  return {name: found if isinstance(found, dict) else _try(
      lambda f=found: _kernel_times(f, inputs, truth))
          for name, found in compiled.items()}


def _try(run: Callable[[], Any]) -> Any:
  """What `run` returns, or a row that says why there is nothing."""
  try:
    return run()
  except Exception as e:  # A compiler's refusals have many types.
    return dict(refused=f'{type(e).__name__}: {e}'[:200])


def _kernel_times(compiled: Callable, inputs: Any, truth: Any
                  ) -> dict[str, float]:
  """Microseconds by kernel, all others as 'rest'; 'error' against `truth`.

  The latter is the largest of all results, as a share of root mean squares.
  """
  run = lambda: jax.block_until_ready(compiled(inputs))
  norm = lambda x: jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum())
  errors = jax.tree.map(
      lambda a, b: float(norm(a.astype(jnp.float32) - b) / norm(b)), run(),
      truth)
  found: dict[str, float] = {}
  for name, seconds in profiles.measure(run, _STEPS, kernels=True).items():
    key = next((one for one in _OURS if name.startswith(one)), 'rest')
    found[key] = found.get(key, 0.0) + 1e6 * seconds
  return {name: round(value, 1) for name, value in sorted(found.items())} | (
      dict(error=max(jax.tree.leaves(errors))))


def main() -> None:
  """Prints one row."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--size', choices=programs.SIZES, required=True)
  parser.add_argument('--form', default='fused_gpu')
  args = parser.parse_args()
  size = programs.SIZES[args.size]
  interpret = args.form != 'fused_gpu'
  rows = {name: sweep(
      window_attention_gpu, attention_choices(),
      lambda window=window: attention_program(size, window, args.form),
      kernels.results(fused_attention.PLAIN_FORM, window))
          for name, window in kernels.windows_of(size).items()}
  rows['passes'] = sweep(passes_gpu, pass_choices(),
                         lambda: pass_program(size, interpret))
  print(json.dumps(dict(device=jax.devices()[0].device_kind,
                        jax=jax.__version__, microseconds=rows)), flush=True)


if __name__ == '__main__':
  main()
