"""What a compiled program sends between devices, from its HLO text.

A collective inside a loop counts as often as the loop runs. Asynchronous ones
count once: `-start` and `-done` are a pair, and XLA:TPU spreads a collective
over many fusions, which all name the same channel.
"""
from collections.abc import Iterator
import dataclasses
import math
import re
from typing import Any

KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all',
         'ragged-all-to-all', 'collective-permute', 'collective-broadcast')
_BITS = {'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16,
         'bf16': 16, 'f16': 16, 's32': 32, 'u32': 32, 'f32': 32, 's64': 64,
         'u64': 64, 'f64': 64, 'c64': 64, 'c128': 128}
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) (\(.*)?-> .*\{\s*$')
_ASSIGNMENT = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = ')
_SHAPE = re.compile(r'\b([a-z]\w*)\[([\d,]*)\]')
_CALLS = re.compile(
    r'\b(?:calls|to_apply|body|condition|branch_computations|'
    r'called_computations|true_computation|false_computation)='
    r'(\{[^}]*\}|%?[\w.\-]+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r'\bcondition=%?([\w.\-]+)')
_CHANNEL = re.compile(r'\bchannel_id=(\d+)')
_MESH_GROUPS = re.compile(r'replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}')
_MESH_AXIS = re.compile(r"'(\w+)'(?::\(\d+\)(\d+))?(?:=(\d+))?")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of the program.

  Attributes:
    kind: One of `KINDS`.
    shape: Shape of its largest tensor, 'bf16[1792,9216]': what an all-gather
      makes, what a reduce-scatter takes.
    largest_bytes: Bytes of that tensor.
    bytes: Bytes of all tensors of one call together.
    group_size: Devices that take part in each exchange; 0 when not stated.
    count: Number of calls in a step.
    op_name: Where it comes from in the model.
  """
  kind: str
  shape: str
  largest_bytes: int
  bytes: int
  group_size: int
  count: int
  op_name: str


@dataclasses.dataclass(frozen=True)
class _Instruction:
  name: str
  result: str
  opcode: str
  rest: str


def collectives(hlo: str) -> list[Collective]:
  """All collectives of a program, those in loops with the loops' counts.

  Args:
    hlo: `jax.stages.Compiled.as_text()`.

  Raises:
    ValueError: If there is no entry, or a collective stands in a loop whose
      number of steps the compiler does not know.
  """
  computations, entry = _parse(hlo)
  if entry is None:
    raise ValueError('The program has no entry computation.')
  counts: dict[str, int] = {}
  _visit(entry, 1, computations, counts, {})
  found: dict[Any, Collective] = {}
  for name, count in counts.items():
    for index, instruction in enumerate(computations[name]):
      collective = _collective(instruction, count)
      if collective is None:
        continue
      channel = _CHANNEL.search(instruction.rest)
      key = (collective.kind, channel.group(1)) if channel else (name, index)
      if key not in found or found[key].count < count:
        found[key] = collective
  return list(found.values())


def totals(found: list[Collective]) -> dict[str, dict[str, int]]:
  """By kind: `count`, `bytes` and `largest_bytes` of one step."""
  result: dict[str, dict[str, int]] = {}
  for one in found:
    total = result.setdefault(
        one.kind, dict(count=0, bytes=0, largest_bytes=0))
    total['count'] += one.count
    total['bytes'] += one.count * one.bytes
    total['largest_bytes'] = max(total['largest_bytes'], one.largest_bytes)
  return result


def _parse(hlo: str) -> tuple[dict[str, list[_Instruction]], str | None]:
  computations: dict[str, list[_Instruction]] = {}
  entry = None
  current: list[_Instruction] | None = None
  for line in hlo.splitlines():
    if current is None or not line.startswith(' '):
      header = _COMPUTATION.match(line)
      if header:
        current = computations.setdefault(header.group(2), [])
        if header.group(1):
          entry = header.group(2)
      continue
    start = _ASSIGNMENT.match(line)
    if start:
      result, rest = _split_type(line[start.end():])
      opcode, _, rest = rest.partition('(')
      current.append(_Instruction(
          start.group(1), result, opcode.strip(), rest))
  return computations, entry


def _split_type(text: str) -> tuple[str, str]:
  """Splits 'f32[2]{0} add(...)' or '(f32[2], u32[]) opcode(...)'."""
  if not text.startswith('('):
    head, _, tail = text.partition(' ')
    return head, tail
  depth = 0
  for position, character in enumerate(text):
    depth += (character == '(') - (character == ')')
    if depth == 0:
      return text[:position + 1], text[position + 2:]
  raise ValueError(f'Unbalanced type in {text!r}.')


def _visit(name, count, computations, counts, known) -> None:
  """Adds `count` runs of a computation and of what it calls.

  `known` remembers which computations hold collectives: the others, most of
  them, are not walked again.
  """
  if not _holds_collectives(name, computations, known):
    return
  counts[name] = counts.get(name, 0) + count
  for instruction in computations[name]:
    trips = 1
    called = list(_called(instruction))
    if instruction.opcode == 'while' and any(
        _holds_collectives(one, computations, known) for one in called):
      trips = _trips(instruction, computations)
    for one in called:
      _visit(one, count * trips, computations, counts, known)


def _trips(loop: _Instruction, computations) -> int:
  """Steps of a loop: as annotated, or the bound that its counter, from 0 by
  one, is compared with."""
  match = _TRIPS.search(loop.rest)
  if match:
    return int(match.group(1))
  condition = computations.get(_CONDITION.search(loop.rest).group(1), ())
  bounds = [int(one.rest.split(')')[0]) for one in condition
            if one.opcode == 'constant' and
            re.match(r'[su]\d+\[\]', one.result)]
  if len(bounds) != 1:
    raise ValueError(f'The loop {loop.name} holds collectives and has no known '
                     'number of steps.')
  return bounds[0]


def _holds_collectives(name, computations, known) -> bool:
  if name not in known:
    known[name] = False  # No computation calls itself.
    known[name] = any(
        _kind(instruction) or any(
            _holds_collectives(one, computations, known)
            for one in _called(instruction))
        for instruction in computations.get(name, ()))
  return known[name]


def _called(instruction: _Instruction) -> Iterator[str]:
  # `async-update` and `async-done` name the computation of their start again.
  if instruction.opcode.endswith(('-done', '-update')):
    return
  for match in _CALLS.finditer(instruction.rest):
    for name in match.group(1).strip('{}').split(','):
      yield name.strip().lstrip('%')


def _kind(instruction: _Instruction) -> str | None:
  opcode = instruction.opcode.removesuffix('-start')
  return opcode if opcode in KINDS else None


def _collective(instruction: _Instruction, count: int) -> Collective | None:
  kind = _kind(instruction)
  if kind is None:
    return None
  group = _group_size(instruction.rest)
  shapes = [(_size(type_, dims), f'{type_}[{dims}]')
            for type_, dims in _SHAPE.findall(instruction.result)]
  if instruction.opcode.endswith('-start') and kind != 'all-reduce':
    # (operand, result, ..): the exchange is one of the two.
    shapes = [max(shapes)]
  factor = max(group, 1) if kind == 'reduce-scatter' else 1
  largest, shape = max(shapes)
  op_name = _OP_NAME.search(instruction.rest)
  return Collective(
      kind, shape, largest * factor, sum(size for size, _ in shapes) * factor,
      group, count, op_name.group(1) if op_name else '')


def _group_size(rest: str) -> int:
  match = re.search(r'replica_groups=\[(\d+),(\d+)\]', rest)
  if match:
    return int(match.group(2))
  match = _MESH_GROUPS.search(rest)
  if match:
    sizes = {name: int(size) for name, _, size in _MESH_AXIS.findall(
        match.group(1))}
    return math.prod(int(part) if part else sizes[name] for name, part, _ in
                     _MESH_AXIS.findall(match.group(2)))
  match = re.search(r'replica_groups=\{\{([\d,]*)\}', rest)
  return len(match.group(1).split(',')) if match and match.group(1) else 0


def _size(type_: str, dims: str) -> int:
  """Bytes of a shape; of tokens and opaque types 0."""
  count = math.prod(int(size) for size in dims.split(',') if size)
  bits = _BITS.get(type_, 8 if type_.startswith('f8') else 0)
  return count * bits // 8
