"""Registers and spills of kernels, as NVIDIA's assembler reports them."""
from collections.abc import Collection, Iterator
import contextlib
import dataclasses
import pathlib
import re
import subprocess
from typing import Any

from walt_jax.core import scratch

_ENTRY = re.compile(r'^\.visible \.entry (\w+)\(', re.MULTILINE)
_TARGET = re.compile(r'^\.target (\w+)', re.MULTILINE)
_REPORT = re.compile(
    r"entry function '(?P<name>\w+)'.*?(?P<stores>\d+) bytes spill stores, "
    r'(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers',
    re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Registers:
  """What one thread of a kernel holds.

  Attributes:
    registers: Registers, at most 255.
    spilled_bytes: Bytes of values that found no register, stored and loaded.
  """
  registers: int
  spilled_bytes: int


@contextlib.contextmanager
def dumped() -> Iterator[tuple[dict[str, Any], pathlib.Path]]:
  """Compiler options that make XLA write its assembly, and the folder."""
  with scratch.folder('assembly') as folder:
    yield dict(xla_dump_to=str(folder)), folder


def report(folder: pathlib.Path, compiler_options: dict[str, Any],
           names: Collection[str]) -> dict[str, Registers]:
  """Assembles the kernels of some names once more, to read their registers.

  Args:
    folder: What XLA wrote, see `dumped`.
    compiler_options: What the program was compiled with.
    names: Names of the kernels.

  Returns:
    Registers by kernel; of several sizes under one name, the largest.
  """
  assembler = pathlib.Path(
      compiler_options['xla_gpu_cuda_data_dir']) / 'bin' / 'ptxas'
  found: dict[str, Registers] = {}
  for path in sorted(folder.glob('*.ptx')):
    text = path.read_text()
    target = _TARGET.search(text)
    if target is None or not _wanted(_ENTRY.findall(text), names):
      continue
    said = subprocess.run(
        [str(assembler), '-v', f'-arch={target.group(1)}', str(path), '-o',
         '/dev/null'], capture_output=True, text=True, check=True).stderr
    for name, one in read(said, names).items():
      found[name] = _larger(one, found.get(name))
  return found


def read(said: str, names: Collection[str]) -> dict[str, Registers]:
  """Registers by kernel from what `ptxas -v` said."""
  found: dict[str, Registers] = {}
  for match in _REPORT.finditer(said):
    for name in _wanted([match['name']], names):
      found[name] = _larger(Registers(
          int(match['registers']), int(match['stores']) + int(match['loads'])),
                            found.get(name))
  return found


def _larger(one: Registers, other: Registers | None) -> Registers:
  return max(one, other or one, key=lambda found: (
      found.spilled_bytes, found.registers))


def _wanted(entries: list[str], names: Collection[str]) -> list[str]:
  """Names of kernels that entries are of: XLA numbers equal names."""
  return [name for entry in entries for name in names
          if re.fullmatch(rf'{re.escape(name)}(_\d+)*', entry)]
