"""The text of a compiled program (optimised HLO), read.

`jax.stages.Compiled.as_text()` is a list of computations; one is the entry,
and loops, calls, conditionals and fusions name the others. This is the only
module that takes such a text apart.
"""
from collections.abc import Callable, Iterator
import dataclasses
import functools
import math
import re

_BITS = {'pred': 8, 's2': 2, 'u2': 2, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8,
         's16': 16, 'u16': 16, 'bf16': 16, 'f16': 16, 's32': 32, 'u32': 32,
         'f32': 32, 's64': 64, 'u64': 64, 'f64': 64, 'c64': 64, 'c128': 128,
         'f4e2m1fn': 4, 'token': 0, 'opaque': 0}
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) (\(.*)?-> .*\{\s*$')
_ASSIGNMENT = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = ')
_SHAPE = re.compile(r'\b([a-z]\w*)\[([\d,]*)\]')
_OPERAND = re.compile(r'%([\w.\-]+)')
_CALLS = re.compile(
    r'\b(?:calls|to_apply|body|condition|branch_computations|'
    r'called_computations|true_computation|false_computation)='
    r'(\{[^}]*\}|%?[\w.\-]+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_SCALAR_INTEGER = re.compile(r'[su]\d+\[\]')


class UncountedError(ValueError):
  """Something of a program whose number or cost is not known."""


@dataclasses.dataclass(frozen=True)
class Shape:
  """One array of a type, such as bf16[1792,9216]."""
  dtype: str
  dims: tuple[int, ...]

  @property
  def num_elements(self) -> int:
    return math.prod(self.dims)

  @property
  def num_bytes(self) -> int:
    """Bytes without padding; of tokens and opaque values 0."""
    bits = _BITS.get(self.dtype)
    if bits is None:
      if not self.dtype.startswith('f8'):
        raise UncountedError(f'The type {self.dtype} has no known size.')
      bits = 8
    return self.num_elements * bits // 8

  def __str__(self) -> str:
    return f'{self.dtype}[{",".join(map(str, self.dims))}]'


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One instruction.

  Attributes:
    name: Its name, unique in the program.
    type: Type of the result with layouts, as written; a tuple in parentheses.
    opcode: Such as 'fusion' or 'all-gather-start'.
    arguments: What stands in the parentheses after the opcode.
    attributes: What stands after them.
    is_root: Whether it is the result of its computation.
  """
  name: str
  type: str
  opcode: str
  arguments: str
  attributes: str
  is_root: bool

  @functools.cached_property
  def operands(self) -> tuple[str, ...]:
    """Names of the instructions that it takes."""
    return tuple(_OPERAND.findall(self.arguments))

  @functools.cached_property
  def shapes(self) -> tuple[Shape, ...]:
    """Arrays of the result."""
    return shapes(self.type)

  @property
  def num_bytes(self) -> int:
    """Bytes of the result."""
    return sum(shape.num_bytes for shape in self.shapes)

  @property
  def op_name(self) -> str:
    """Where it comes from in the traced program; '' where not stated."""
    return self.attribute(_OP_NAME) or ''

  @functools.cached_property
  def called(self) -> tuple[str, ...]:
    """Names of the computations that it runs."""
    # `async-update` and `async-done` name the computation of their start.
    if self.opcode.endswith(('-done', '-update')):
      return ()
    return tuple(
        name.strip().lstrip('%') for match in _CALLS.finditer(self.attributes)
        for name in match.group(1).strip('{}').split(',') if name.strip())

  def attribute(self, pattern: str | re.Pattern[str]) -> str | None:
    """The first group of a pattern in its attributes; None: not there."""
    match = re.search(pattern, self.attributes)
    return match.group(1) if match else None


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions in the order of the text, which is that of running them."""
  name: str
  instructions: tuple[Instruction, ...]

  @functools.cached_property
  def by_name(self) -> dict[str, Instruction]:
    return {one.name: one for one in self.instructions}

  @functools.cached_property
  def users(self) -> dict[str, list[Instruction]]:
    """Instructions that take a result, by the name of what made it."""
    found: dict[str, list[Instruction]] = {}
    for one in self.instructions:
      for name in one.operands:
        found.setdefault(name, []).append(one)
    return found

  @property
  def root(self) -> Instruction:
    return next(one for one in self.instructions if one.is_root)


@dataclasses.dataclass(frozen=True)
class Program:
  """A program: its computations by name, and the name of the entry."""
  computations: dict[str, Computation]
  entry: str

  def body(self, instruction: Instruction) -> Computation:
    """The body of a loop."""
    name = instruction.attribute(r'\bbody=%?([\w.\-]+)')
    assert name is not None, instruction.name
    return self.computations[name]

  def turns(self, loop: Instruction) -> int:
    """How often a loop turns: as its text says, or the one whole number that
    its condition compares the counter, from 0 by one, with.

    Raises:
      UncountedError: If neither is there.
    """
    named = loop.attribute(_TRIPS)
    if named:
      return int(named)
    condition = loop.attribute(r'\bcondition=%?([\w.\-]+)')
    bounds = [int(one.arguments) for one in self._within(condition or '')
              if one.opcode == 'constant' and _SCALAR_INTEGER.match(one.type)]
    if len(bounds) != 1:
      raise UncountedError(
          f'The loop {loop.name} has no known number of steps.')
    return bounds[0]

  def _within(self, name: str) -> Iterator[Instruction]:
    """Instructions of a computation and of what it calls."""
    for one in getattr(self.computations.get(name), 'instructions', ()):
      yield one
      for called in one.called:
        yield from self._within(called)

  def multiplicities(
      self, wanted: Callable[[Instruction], bool]) -> dict[str, int]:
    """How often each computation that holds a wanted instruction runs.

    Only such computations are walked, fusions included, so that a loop
    without any may have an unknown number of steps. Of a conditional every
    branch counts.

    Raises:
      UncountedError: If a wanted instruction stands in a loop whose number of
        steps is not known.
    """
    known: dict[str, bool] = {}
    counts: dict[str, int] = {}

    def holds(name: str) -> bool:
      if name not in known:
        known[name] = False  # No computation calls itself.
        known[name] = name in self.computations and any(
            wanted(one) or any(map(holds, one.called))
            for one in self.computations[name].instructions)
      return known[name]

    def visit(name: str, count: int) -> None:
      if not holds(name):
        return
      counts[name] = counts.get(name, 0) + count
      for one in self.computations[name].instructions:
        if any(map(holds, one.called)):
          turns = self.turns(one) if one.opcode == 'while' else 1
          for called in one.called:
            visit(called, count * turns)

    visit(self.entry, 1)
    return counts


def parse(text: str) -> Program:
  """Reads the text of a program.

  Args:
    text: `jax.stages.Compiled.as_text()`.

  Raises:
    ValueError: If it has no entry computation.
  """
  found: dict[str, list[Instruction]] = {}
  entry = None
  current: list[Instruction] | None = None
  for line in text.splitlines():
    if current is None or not line.startswith(' '):
      header = _COMPUTATION.match(line)
      if header:
        current = found.setdefault(header.group(2), [])
        if header.group(1):
          entry = header.group(2)
      continue
    start = _ASSIGNMENT.match(line)
    if start:
      current.append(_instruction(
          start.group(2), line[start.end():], start.group(1) is not None))
  if entry is None:
    raise ValueError('The program has no entry computation.')
  return Program({name: Computation(name, tuple(instructions))
                  for name, instructions in found.items()}, entry)


def shapes(text: str) -> tuple[Shape, ...]:
  """The arrays of a type, as written."""
  return tuple(
      Shape(dtype, tuple(int(size) for size in dims.split(',') if size))
      for dtype, dims in _SHAPE.findall(text))


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
  """Reads 'f32[2]{0} add(%a, %b), metadata=..'."""
  if text.startswith('('):
    end = _closing(text, 0) + 1
  else:
    end = text.index(' ')
  opening = text.index('(', end)
  closing = _closing(text, opening)
  return Instruction(
      name, text[:end], text[end:opening].strip(),
      text[opening + 1:closing], text[closing + 1:], is_root)


def _closing(text: str, start: int) -> int:
  """Position of the parenthesis that closes the one at `start`."""
  depth = 0
  for match in re.compile(r'[()]').finditer(text, start):
    depth += 1 if match.group() == '(' else -1
    if depth == 0:
      return match.start()
  raise ValueError(f'Unbalanced parentheses in {text!r}.')
