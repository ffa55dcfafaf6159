"""What a compiled program sends between devices, from its HLO text.

A collective inside a loop counts as often as the loop runs. Asynchronous ones
count once: `-start` and `-done` are a pair, and XLA:TPU spreads a collective
over many fusions, which all name the same channel. Between slices of TPUs it is
a `send` to the hosts, which exchange it, and a `recv`.
"""
import dataclasses
import math
import re
from typing import Any

import numpy as np

from walt_jax.planning import hlo as hlo_lib

KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all',
         'ragged-all-to-all', 'collective-permute', 'collective-broadcast')
_MESH_GROUPS = re.compile(
    r'replica_groups=mesh\[([^\]]*)\]([^{]*)\{([^}]*)\}')
# What the hosts do with what is sent, and the slices that take part.
_BETWEEN_SLICES = re.compile(
    r'_xla_megascale_target="\{([\d,]*)\}x.*'
    r'_xla_megascale_transfer_type="(\w+)"')
_MESH_AXIS = re.compile(r"'(\w+)'(?::\((\d+)\)(\d+))?(?:=(\d+))?")


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
    is_ring: Whether a permute sends around a closed ring, as loops of partial
      products do; an exchange with neighbours alone has ends.
    between_slices: Whether it goes over the network between slices of TPUs,
      or hosts of GPUs.
  """
  kind: str
  shape: str
  largest_bytes: int
  bytes: int
  group_size: int
  count: int
  op_name: str
  is_ring: bool = False
  between_slices: bool = False


def collectives(hlo: str, host_size: int | None = None) -> list[Collective]:
  """All collectives of a program, those in loops with the loops' counts.

  Args:
    hlo: `jax.stages.Compiled.as_text()`.
    host_size: GPUs of a host; what leaves one is `between_slices`. None: the
      text says what goes between slices, as of TPUs.

  Raises:
    ValueError: If there is no entry, or a collective stands in a loop whose
      number of steps the compiler does not know.
  """
  program = hlo_lib.parse(hlo)
  counts = program.multiplicities(lambda one: _kind(one) is not None)
  found: dict[Any, Collective] = {}
  for name, count in counts.items():
    for index, instruction in enumerate(
        program.computations[name].instructions):
      one = collective(instruction, count)
      if one is None:
        continue
      if host_size is not None:
        one = dataclasses.replace(
            one, between_slices=leaves_host(instruction, host_size))
      channel = instruction.attribute(r'\bchannel_id=(\d+)')
      key = (one.kind, channel) if channel else (name, index)
      if key not in found or found[key].count < count:
        found[key] = one
  return list(found.values())


def leaves_host(instruction: hlo_lib.Instruction, host_size: int) -> bool:
  """Whether a collective goes over the network between hosts of GPUs."""
  return any(len({device // host_size for device in group}) > 1
             for group in device_groups(instruction))


def totals(found: list[Collective]) -> dict[str, dict[str, int]]:
  """By kind: `count`, `bytes` and `largest_bytes` of one step.

  What goes between slices is a kind of its own, 'all-reduce between slices'.
  """
  result: dict[str, dict[str, int]] = {}
  for one in found:
    apart = ' between slices' if one.between_slices else ''
    total = result.setdefault(
        one.kind + apart, dict(count=0, bytes=0, largest_bytes=0))
    total['count'] += one.count
    total['bytes'] += one.count * one.bytes
    total['largest_bytes'] = max(total['largest_bytes'], one.largest_bytes)
  return result


def _kind(instruction: hlo_lib.Instruction) -> str | None:
  if instruction.opcode == 'send':
    match = _BETWEEN_SLICES.search(instruction.attributes)
    kind = match[2].lower().replace('_', '-') if match else None
    return kind if kind in KINDS else None
  opcode = instruction.opcode.removesuffix('-start')
  return opcode if opcode in KINDS else None


def collective(instruction: hlo_lib.Instruction, count: int = 1
               ) -> Collective | None:
  """What an instruction sends; None if it is no collective or its end."""
  kind = _kind(instruction)
  if kind is None:
    return None
  if instruction.opcode == 'send':
    return _between_slices(instruction, kind, count)
  group = _group_size(instruction.attributes)
  shapes = list(instruction.shapes)
  if instruction.opcode.endswith('-start') and kind != 'all-reduce':
    # (operand, result, ..): the exchange is one of the two.
    shapes = [max(shapes, key=lambda shape: shape.num_bytes)]
  factor = max(group, 1) if kind == 'reduce-scatter' else 1
  largest = max(shapes, key=lambda shape: shape.num_bytes)
  return Collective(
      kind, str(largest), largest.num_bytes * factor,
      sum(shape.num_bytes for shape in shapes) * factor, group, count,
      instruction.op_name, _is_ring(instruction.attributes))


def _between_slices(instruction: hlo_lib.Instruction, kind: str, count: int
                    ) -> Collective:
  """What a host hands to the hosts of other slices."""
  match = _BETWEEN_SLICES.search(instruction.attributes)
  assert match is not None
  slices = len(match[1].split(','))
  sent = instruction.shapes[0]
  # All-gathers are told by what they make.
  factor = slices if kind == 'all-gather' else 1
  return Collective(
      kind, str(sent), sent.num_bytes * factor, sent.num_bytes * factor, slices,
      count, instruction.op_name, between_slices=True)


def _is_ring(rest: str) -> bool:
  pairs = re.findall(r'\{(\d+),(\d+)\}', (re.search(
      r'source_target_pairs=\{(.*?)\}\}', rest) or [''])[0])
  return bool(pairs) and {one for one, _ in pairs} == {
      other for _, other in pairs}


def _group_size(rest: str) -> int:
  match = re.search(r'replica_groups=\[(\d+),(\d+)\]', rest)
  if match:
    return int(match.group(2))
  match = _MESH_GROUPS.search(rest)
  if match:
    return len(_mesh_groups(*match.groups())[0])
  match = re.search(r'replica_groups=\{\{([\d,]*)\}', rest)
  return len(match.group(1).split(',')) if match and match.group(1) else 0


def device_groups(instruction: hlo_lib.Instruction) -> list[list[int]]:
  """The devices of each exchange of a collective, by their numbers.

  Raises:
    UncountedError: If the text does not say.
  """
  text = instruction.attributes
  match = re.search(
      r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text)
  if match:
    shape, dims, order = (
        [int(size) for size in (part or '').split(',') if size]
        for part in match.groups())
    devices = np.arange(math.prod(dims)).reshape(dims)
    return devices.transpose(order or None).reshape(shape).tolist()
  match = _MESH_GROUPS.search(text)
  if match:
    return _mesh_groups(*match.groups())
  match = (re.search(r'replica_groups=\{(\{[\d,{}]*\})\}', text) or
           re.search(r'source_target_pairs=\{(\{[\d,{}]*\})\}', text))
  if match:
    return [[int(device) for device in group.split(',')]
            for group in re.findall(r'\{([\d,]+)\}', match.group(1))]
  raise hlo_lib.UncountedError(
      f'{instruction.name}: its groups of devices are not in the text.')


def _mesh_groups(axes: str, options: str, members: str) -> list[list[int]]:
  """Groups along some axes of a mesh, or along parts of axes.

  Args:
    axes: "'a'=2,'b'=8", sizes from the slowest axis.
    options: May have 'device_ids=([2,8]T(1,0))', the order of the devices.
    members: "'b'", or "'b':(2)4" for the 4 in the middle of [2, 4, rest].
  """
  sizes = {name: int(size) for name, _, _, size in _MESH_AXIS.findall(axes)}
  order = re.search(r'device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)', options)
  devices = np.arange(math.prod(sizes.values()))
  if order:
    dims, transposed = (
        [int(size) for size in (part or '').split(',') if size]
        for part in order.groups())
    devices = devices.reshape(dims).transpose(transposed or None)
  parts = {name: (int(before or 1), int(part or sizes[name]))
           for name, before, part, _ in _MESH_AXIS.findall(members)}
  shape: list[int] = []
  inside: list[int] = []  # Axes of a group.
  for name, size in sizes.items():
    before, part = parts.get(name, (size, 1))
    if name in parts:
      inside.append(len(shape) + 1)
    shape += [before, part, size // (before * part)]
  outside = [axis for axis in range(len(shape)) if axis not in inside]
  grouped = devices.reshape(shape).transpose(outside + inside)
  return grouped.reshape(
      -1, math.prod(part for _, part in parts.values())).tolist()
