"""What the fuzzer knows of one reader of stored or foreign bytes."""
from collections.abc import Callable
import dataclasses
import pathlib
import random
from typing import Any

from walt_jax.core import errors

# Draws an input: changes the first of some valid ones, may use the others.
Mutate = Callable[[random.Random, bytes], bytes]


@dataclasses.dataclass(frozen=True)
class Target:
  """A reader that is ready to be called.

  Attributes:
    seeds: Valid inputs, as the writer of the format makes them.
    read: Reads an input as a command does.
  """
  seeds: tuple[bytes, ...]
  read: Callable[[bytes], Any]


@dataclasses.dataclass(frozen=True)
class Reader:
  """A row of the table.

  Attributes:
    name: As `--reader` takes it.
    make: Makes the target; gets an empty folder of its own, which lives as
      long as the run.
    mutate: Draws an input.
    passes: Whether an input passes the reader's header, so that what lies
      behind it is reached.
    refusals: What the reader raises on an input that it refuses.
    memory_mib: Most memory that one input may take beyond what was taken
      before, besides copies of itself; most inputs are kilobytes long.
    seconds: Most processor time that one input may take.
  """
  name: str
  make: Callable[[pathlib.Path], Target]
  mutate: Mutate
  passes: Callable[[bytes], bool]
  refusals: tuple[type[BaseException], ...] = (errors.UserError,)
  memory_mib: int = 64
  seconds: float = 5.0


def of_file(path: pathlib.Path, seeds: list[bytes],
            call: Callable[[pathlib.Path], Any]) -> Target:
  """A target that reads one file, which each input is written to."""
  path.parent.mkdir(parents=True, exist_ok=True)

  def read(data: bytes) -> Any:
    path.write_bytes(data)
    return call(path)

  return Target(tuple(seeds), read)
