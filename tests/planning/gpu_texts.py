"""Small programs for absent GPUs, and the texts that XLA made of them.

  python -m tests.planning.gpu_texts           writes `texts/*.hlo.gz`

needs the wheels of the extra `gpu_plan`. The texts let every machine test the
ledger; where the wheels are, tests compile the programs again.
`texts/l_h100.hlo.gz` is the train step of `configs/ucf101.py:l` with
`model.remat_policy=minimal data.batch_size=32
diffusion.self_condition_probability=0`, attention in XLA's form, at 65c1301.
"""
from collections.abc import Callable
import dataclasses
import gzip
import pathlib
import re
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import gpu_topology

TEXTS = pathlib.Path(__file__).parent / 'texts'
_P = jax.sharding.PartitionSpec
_TILE, _STEP = 128, 64


@dataclasses.dataclass(frozen=True)
class Case:
  """A program.

  Attributes:
    function: What is jitted.
    shapes: Shapes of its arguments.
    specs: Partition specs of the arguments over 8 GPUs; None: one GPU.
  """
  function: Callable[..., Any]
  shapes: tuple[jax.ShapeDtypeStruct, ...]
  specs: tuple[Any, ...] | None = None

  def traced(self, devices=None) -> jax.stages.Traced:
    """Its trace, for absent devices or for nowhere."""
    if devices is None:
      return jax.jit(self.function).trace(*self.shapes)
    mesh = mesh_lib.make_mesh(1, len(devices), 1, devices=devices)
    specs = self.specs or (_P(),) * len(self.shapes)
    shardings = tuple(jax.sharding.NamedSharding(mesh, s) for s in specs)
    with jax.set_mesh(mesh):
      return jax.jit(self.function, in_shardings=shardings).trace(
          *self.shapes)


def compiled_text(case: Case) -> str:
  """What XLA makes of a case."""
  gpus = gpu_topology.get_gpus('h100:8' if case.specs else 'h100:1')
  return case.traced(gpus.devices).lower().compile(
      compiler_options=gpus.compiler_options).as_text()


def text(name: str) -> str:
  """The stored text of a case."""
  return gzip.decompress((TEXTS / f'{name}.hlo.gz').read_bytes()).decode()


def kernel_product(a: jax.Array, b: jax.Array) -> jax.Array:
  """The product of [M, N] and [N, K] as a Pallas kernel."""
  (m, n), k = a.shape, b.shape[1]

  def kernel(a_ref, b_ref, out_ref):
    def step(i, total):
      part = pl.ds(i * _STEP, _STEP)
      return total + jnp.dot(a_ref[:, part], b_ref[part, :],
                             preferred_element_type=jnp.float32)
    total = jax.lax.fori_loop(
        0, n // _STEP, step, jnp.zeros(out_ref.shape, jnp.float32))
    out_ref[...] = jnp.exp(total).astype(out_ref.dtype)

  return pl.pallas_call(
      kernel, grid=(m // _TILE, k // _TILE),
      in_specs=[pl.BlockSpec((_TILE, n), lambda i, j: (i, 0)),
                pl.BlockSpec((n, _TILE), lambda i, j: (0, j))],
      out_specs=pl.BlockSpec((_TILE, _TILE), lambda i, j: (i, j)),
      out_shape=jax.ShapeDtypeStruct((m, k), a.dtype), name='tile_product',
      compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2))(a, b)


def plain_product(a: jax.Array, b: jax.Array) -> jax.Array:
  """The same by XLA."""
  return jnp.exp(jnp.dot(a, b, preferred_element_type=jnp.float32)).astype(
      a.dtype)


def _layers(product):
  """Two layers in a loop, the first product by `product`."""
  def function(x, first, second):
    def layer(x, weights):
      return product(x, weights[0]) @ weights[1] * .1, None
    return jax.lax.scan(layer, x, (first, second))[0]
  return function


def _convolutions(dims: int):
  """Forward and both backward passes of a convolution of 3^dims taps."""
  letters = 'DHW'[-dims:]

  def function(x, kernel):
    out = jax.lax.conv_general_dilated(
        x, kernel, (1,) * dims, 'SAME', dimension_numbers=(
            f'N{letters}C', f'{letters}IO', f'N{letters}C'))
    return jnp.sum(jnp.square(out.astype(jnp.float32)))

  return jax.grad(function, (0, 1))


def _gathered_layers(x, weights):
  """Layers whose weights are spread over the GPUs and gathered for use."""
  def layer(x, w):
    whole = jax.lax.with_sharding_constraint(w, _P(None, None))
    return jax.nn.gelu(x @ whole), None
  return jax.lax.scan(layer, x, weights)[0]


def struct(*shape: int) -> jax.ShapeDtypeStruct:
  """A bfloat16 array of a shape."""
  return jax.ShapeDtypeStruct(shape, jnp.bfloat16)


_LAYERS = (struct(8192, 1024), struct(3, 1024, 4096), struct(3, 4096, 1024))
CASES = {
    'layers': Case(_layers(plain_product), _LAYERS),
    'kernel_layers': Case(_layers(kernel_product), _LAYERS),
    'convolution2d': Case(
        _convolutions(2), (struct(4, 64, 64, 128), struct(3, 3, 128, 256))),
    'convolution3d': Case(
        _convolutions(3),
        (struct(2, 8, 32, 32, 64), struct(3, 3, 3, 64, 128))),
    'gathered_layers': Case(
        _gathered_layers, (struct(4096, 1024), struct(3, 1024, 1024)),
        (_P('fsdp', None), _P(None, 'fsdp', None))),
}


def trimmed(hlo: str) -> str:
  """A text without what no charge reads."""
  start = re.search(r'^%?[\w.\-]+ \(.*\) -> .*\{$', hlo, re.MULTILINE)
  hlo = hlo.split('\n', 1)[0] + '\n\n' + hlo[start.start():]
  hlo = re.sub(r' ?(scheduling_name="[^"]*"|stack_frame_id=\d+)', '', hlo)
  hlo = re.sub(r'\bir = ".*", name', 'name', hlo)
  return re.sub(r', (sharding=\{[^}]*\}|frontend_attributes=\{[^}]*\}|'
                r'metadata=\{\})', '', hlo)


def main():
  TEXTS.mkdir(exist_ok=True)
  for name, case in CASES.items():
    data = trimmed(compiled_text(case)).encode()
    (TEXTS / f'{name}.hlo.gz').write_bytes(
        gzip.compress(data, mtime=0))


if __name__ == '__main__':
  jax.config.update('jax_platforms', 'cpu')
  main()
