"""Bundles of a compiled TPU kernel, from what the compiler dumps.

A bundle is what a core issues in a cycle. `--xla_jf_dump_llo_text` writes a
file `..final_bundles.txt` a kernel, with a line a bundle: its address, a mark
such as LB where a loop begins, as many '>' as loops it stands in, and what it
holds. The flag is read when libtpu loads, so that a process of its own
compiles the kernels.
"""
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import re
import subprocess
import sys

import jax
from jax import export
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from walt_jax.core import scratch
from walt_jax.planning import hlo
from walt_jax.planning import topology

_BUNDLE = re.compile(
    r'^ *(?:0x)?[0-9a-f]+ +((?:[A-Z]{2} *)*): *(>*) *\{(\})?', re.MULTILINE)
_DUMPED = '*-final_bundles.txt'


@dataclasses.dataclass
class Loop:
  """Bundles of a loop's body, or of a whole kernel.

  Attributes:
    count: Bundles beside those of the loops inside.
    loops: Loops inside, in order.
  """
  count: int
  loops: list['Loop']


def parse(text: str) -> Loop:
  """Reads a file of final bundles.

  Raises:
    UncountedError: If it holds none.
  """
  stack = [Loop(0, [])]
  depth = 0
  for marks, arrows, is_empty in _BUNDLE.findall(text):
    if not is_empty:  # An empty bundle has no arrows, wherever it stands.
      depth = len(arrows)
    if 'LB' in marks.split():
      del stack[depth:]
      if len(stack) != depth:
        raise hlo.UncountedError('A loop of a dump begins outside of its own.')
      stack[-1].loops.append(Loop(0, []))
      stack.append(stack[-1].loops[-1])
    stack[min(depth, len(stack) - 1)].count += 1
  if not (stack[0].count or stack[0].loops):
    raise hlo.UncountedError('A dump of a kernel holds no bundle.')
  return stack[0]


def compiled(kernels: Sequence[tuple[str, export.Exported]], place: str
             ) -> list[Loop]:
  """Compiles kernels for one absent chip and reads their bundles.

  Args:
    kernels: Names of kernels, each with the program that calls it alone.
    place: Name of a slice, such as 'v5p:4x4x4'.

  Raises:
    UncountedError: If the compiler dumps none.
  """
  with scratch.folder('kernels') as folder:
    for index, (_, program) in enumerate(kernels):
      (folder / f'{index}.program').write_bytes(program.serialize())
    environment = dict(
        os.environ, JAX_PLATFORMS='cpu', ALLOW_MULTIPLE_LIBTPU_LOAD='1',
        # What comes from a cache is not compiled, and dumps nothing.
        JAX_ENABLE_COMPILATION_CACHE='false',
        PYTHONPATH=os.pathsep.join(sys.path),
        LIBTPU_INIT_ARGS=f'--xla_jf_dump_to={folder / "dump"} '
                         '--xla_jf_dump_llo_text=true')
    found = subprocess.run(
        [sys.executable, '-m', 'walt_jax.planning.bundles', place, str(folder),
         str(len(kernels))], env=environment, capture_output=True, text=True,
        check=False)
    if found.returncode:
      raise RuntimeError(
          f'Compiling kernels for {place} failed:\n{found.stderr[-4000:]}')
    return [_read(folder / str(index), name)
            for index, (name, _) in enumerate(kernels)]


def _read(folder: pathlib.Path, name: str) -> Loop:
  files = [path for path in sorted(folder.glob(_DUMPED))
           if re.search(rf'-{name}(\.\d+)?-\d+-final', path.name)]
  if len(files) != 1:
    raise hlo.UncountedError(
        f'The compiler dumped {len(files)} lists of bundles of the kernel '
        f'{name}; one was expected.')
  return parse(files[0].read_text())


def _compile(place: str, scratch: str, count: int) -> None:
  """What the other process does."""
  folder = pathlib.Path(scratch)
  device = topology.get_slice(place).devices[0]
  mesh = jax.sharding.Mesh(np.array([device]), ('x',))
  for index in range(count):
    program = export.deserialize(
        bytearray((folder / f'{index}.program').read_bytes()))
    inputs = [jax.ShapeDtypeStruct(
        aval.shape, aval.dtype, sharding=NamedSharding(mesh, P()))
              for aval in program.in_avals]
    jax.jit(program.call).lower(*inputs).compile()
    (folder / 'dump').rename(folder / str(index))


if __name__ == '__main__':
  _compile(sys.argv[1], sys.argv[2], int(sys.argv[3]))
