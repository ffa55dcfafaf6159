"""What each kernel of a program compiled for a TPU costs.

XLA:TPU writes its own estimate, `estimated_cycles`, into every fusion; what
has none is charged by bytes, by links or, a Pallas kernel, by the bundles of
its compiled body (`mosaic_kernels`). Copies between the chip's two memories
run beside other work and cost what that work does not hide.
"""
from collections.abc import Iterator
import dataclasses
import math
import re

from walt_jax.planning import collectives as collectives_lib
from walt_jax.planning import hlo
from walt_jax.planning import ledger
from walt_jax.planning import mosaic_kernels
from walt_jax.planning import origins
from walt_jax.planning import roofline
from walt_jax.planning import topology

# Cycles of a pass without an estimate, beside its bytes: one on the scalar
# core. An assumption; there are some thousands of them in a step.
PASS_CYCLES = 20
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_CHANNEL = re.compile(r'channel_id=(\d+)')
_ASYNC_START, _ASYNC_DONE = 'AsyncCollectiveStart', 'AsyncCollectiveDone'
_FREE = frozenset((
    'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast',
    'after-all', 'partition-id', 'replica-id', 'opt-barrier', 'domain',
    'add-dependency', 'get-dimension-size',
    'recv'))  # The `send` of the same exchange is charged.
# They say something of memory or of values, and run nothing.
_FREE_CALLS = frozenset((
    'AllocateBuffer', 'ConcatBitcast', 'AssumeGatherIndicesInBound',
    'Sharding', 'annotate_device_placement', 'SliceId'))
_DMA = ('copy-start', 'slice-start')
_PASSES = frozenset((
    'copy', 'transpose', 'convert', 'broadcast', 'reshape', 'concatenate',
    'reduce', 'pad', 'slice', 'dynamic-slice', 'dynamic-update-slice',
    'gather', 'scatter', 'reverse', 'iota', 'select', 'add', 'subtract',
    'multiply', 'divide', 'compare', 'and', 'or', 'xor', 'not', 'negate',
    'maximum', 'minimum', 'exponential', 'log', 'tanh', 'bitcast-convert',
    'clamp', 'floor', 'ceil', 'round-nearest-even', 'shift-left',
    'shift-right-logical',
    'shift-right-arithmetic', 'remainder', 'sign', 'abs', 'rsqrt', 'sqrt',
    'power', 'cosine', 'sine', 'is-finite', 'rng-bit-generator',
    'rng-get-and-update-state', 'exponential-minus-one', 'log-plus-one'))
_LAYOUT = re.compile(
    r'\b([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)(?::T\((\d+)(?:,(\d+))?\))?)?')
_SHAPE_LETTERS = 90


@dataclasses.dataclass(frozen=True)
class Charger:
  """Charges instructions of one program.

  Attributes:
    program: The program.
    place: The slice that it was compiled for.
    kernels: What its Pallas kernels cost.
  """
  program: hlo.Program
  place: topology.Slice
  kernels: mosaic_kernels.Costs

  def __call__(self, computation: hlo.Computation, one: hlo.Instruction
               ) -> ledger.Charge | None:
    """See `ledger.ChargeOf`."""
    charge = self._charge_of(computation, one)
    if charge is None:
      return None
    op_name = origins.origin(self.program, computation, one)
    return dataclasses.replace(
        charge, op_name=op_name, part=ledger.part_of(
            op_name, is_product=charge.flops > 0 and charge.kind == 'product'))

  def _charge_of(self, computation: hlo.Computation, one: hlo.Instruction
                 ) -> ledger.Charge | None:
    if one.opcode in _FREE or one.opcode.endswith(('-done', '-update')):
      return None
    collective = collectives_lib.collective(one)
    if collective is not None:
      return self._collective(one, collective)
    cycles = one.attribute(_CYCLES)
    if cycles is not None and int(cycles):
      return self._by_cycles(one, int(cycles))
    if one.opcode == 'fusion':
      return self._without_cycles(computation, one)
    if one.opcode == 'custom-call':
      return self._custom_call(computation, one)
    if one.opcode in _DMA:
      return self._by_bytes(one, 'copy between memories', _arriving(one))
    if one.opcode == 'sort':
      return self._sort(one)
    if one.opcode not in _PASSES:
      raise ledger.UncountedError(
          f'{one.name}: a TPU ledger has no charge for {one.opcode!r}.')
    if one.opcode == 'dynamic-update-slice':  # In place.
      moved = 2 * _operand_bytes(computation, one)[1]
    else:
      moved = physical_bytes(one.type) + sum(_operand_bytes(computation, one))
    return self._by_bytes(one, one.opcode, moved)

  def _charge(self, one: hlo.Instruction, kind: str, seconds: float,
              moved: int, flops: int, how: str) -> ledger.Charge:
    return ledger.Charge(one.name, kind, '', '', one.type[:_SHAPE_LETTERS], 1,
                         seconds, moved, flops, how)

  def _by_cycles(self, one: hlo.Instruction, cycles: int) -> ledger.Charge:
    flops, kind = 0, one.opcode
    if one.opcode == 'fusion':
      inside = list(self._within(one))
      flops = sum(_product_flops(inner, part) for inner, part in inside)
      kind = ('product' if flops else 'reduction' if any(
          part.opcode == 'reduce' for _, part in inside) else 'pass')
    elif one.opcode in ('convolution', 'dot'):
      raise ledger.UncountedError(
          f'{one.name}: a product outside of a fusion has no charge.')
    return self._charge(one, kind, cycles / self.place.chip.clock, 0, flops,
                        'cycles that the compiler estimates')

  def _within(self, fusion: hlo.Instruction
              ) -> Iterator[tuple[hlo.Computation, hlo.Instruction]]:
    """What a fusion and the fusions inside of it hold."""
    for name in fusion.called:
      inner = self.program.computations[name]
      for part in inner.instructions:
        yield inner, part
        if part.opcode == 'fusion':
          yield from self._within(part)

  def _by_bytes(self, one: hlo.Instruction, kind: str, moved: int
                ) -> ledger.Charge:
    chip = self.place.chip
    seconds = moved * chip.num_devices / chip.hbm_bandwidth + (
        PASS_CYCLES / chip.clock)
    return self._charge(one, kind, seconds, moved, 0, 'bytes')

  def _sort(self, one: hlo.Instruction) -> ledger.Charge:
    """A bitonic network: each of its stages passes over all that is sorted."""
    axis = one.attribute(r'dimensions=\{(\d+)\}')
    if axis is None:
      raise ledger.UncountedError(
          f'{one.name}: a sort that does not name its axis has no charge.')
    length = one.shapes[0].dims[int(axis)]
    rounds = max(math.ceil(math.log2(max(length, 1))), 1)
    stages = rounds * (rounds + 1) // 2
    pass_ = self._by_bytes(one, 'sort', 2 * physical_bytes(one.type))
    return dataclasses.replace(
        pass_, seconds=stages * pass_.seconds, bytes=stages * pass_.bytes)

  def _without_cycles(self, computation, one: hlo.Instruction
                      ) -> ledger.Charge | None:
    """A fusion without an estimate: of a collective, or by its bytes."""
    inside = list(self._within(one))
    targets = {part.attribute(_TARGET) for _, part in inside}
    if _ASYNC_DONE in targets:
      return None
    for _, part in inside:
      collective = collectives_lib.collective(part)
      if collective is not None:
        return self._collective(one, _scattered(one, collective))
    if any(part.opcode in ('convolution', 'dot') for _, part in inside):
      raise ledger.UncountedError(
          f'{one.name}: a product without estimated cycles has no charge.')
    return self._by_bytes(
        one, 'fusion without cycles', physical_bytes(one.type) + sum(
            _operand_bytes(computation, one)))

  def _collective(self, one: hlo.Instruction,
                  collective: collectives_lib.Collective) -> ledger.Charge:
    sent = int(roofline.transfer_bytes(collective))
    speed = roofline.collective_bandwidth(
        self.place.chip, self.place.chips_of_slice, collective)
    return dataclasses.replace(
        self._charge(one, collective.kind, sent / speed, sent, 0,
                     'network between slices' if collective.between_slices
                     else 'links of the axis'), shape=collective.shape)

  def _custom_call(self, computation: hlo.Computation, one: hlo.Instruction
                   ) -> ledger.Charge | None:
    target = one.attribute(_TARGET)
    if target in _FREE_CALLS:
      return None
    if target == 'ZeroCrop':  # Clears the padding of what it is given.
      return self._by_bytes(one, target, physical_bytes(one.type))
    if target != 'tpu_custom_call':
      raise ledger.UncountedError(
          f'{one.name}: a TPU ledger has no charge for the custom call '
          f'{target!r}.')
    key = mosaic_kernels.key_of(computation, one)
    cost = self.kernels.get(key)
    if cost is None:
      raise ledger.UncountedError(
          f'{one.name}: the Pallas kernel {key} is not in the trace.')
    return self._charge(one, f'kernel {cost.name}', cost.seconds, cost.bytes,
                        cost.flops, cost.how)


def tpu_ledger(text: str, place: topology.Slice,
               kernels: mosaic_kernels.Costs) -> ledger.Ledger:
  """Charges a program.

  Args:
    text: `jax.stages.Compiled.as_text()`.
    place: The slice that it was compiled for.
    kernels: See `mosaic_kernels.costs`.

  Raises:
    UncountedError: On what has no charge, or a loop without a known count.
  """
  program = hlo.parse(text)
  return ledger.charge_program(
      program, Charger(program, place, kernels),
      lambda computation: _ends(program, computation))


def _ends(program: hlo.Program, computation: hlo.Computation
          ) -> dict[int, int]:
  """Where that which is started at an index ends: also collectives that XLA
  spreads over fusions, which name the same channel."""
  ends = ledger.ends_of(computation)
  open_channels: dict[str, int] = {}
  for index, one in enumerate(computation.instructions):
    if one.opcode != 'fusion':
      continue
    inner = program.computations[one.called[0]]
    targets = {part.attribute(_TARGET) for part in inner.instructions}
    if not targets & {_ASYNC_START, _ASYNC_DONE}:
      continue
    for part in inner.instructions:
      channel = part.attribute(_CHANNEL)
      if channel is None:
        continue
      if _ASYNC_START in targets:
        open_channels[channel] = index
      elif channel in open_channels:
        ends[open_channels.pop(channel)] = index
  return ends


def _scattered(one: hlo.Instruction, collective: collectives_lib.Collective
               ) -> collectives_lib.Collective:
  """An all-reduce of which a fusion keeps a slice sends as a
  reduce-scatter."""
  kept = max((shape.num_bytes for shape in one.shapes), default=0)
  if (collective.kind == 'all-reduce' and
      kept * collective.group_size == collective.largest_bytes):
    return dataclasses.replace(collective, kind='reduce-scatter')
  return collective


def physical_bytes(text: str) -> int:
  """Bytes of the arrays of a type as they lie in memory, tiles padded."""
  total = 0
  for dtype, dims, order, rows, columns in _LAYOUT.findall(text):
    sizes = [int(size) for size in dims.split(',') if size]
    minor = [int(axis) for axis in order.split(',') if axis]
    tile = [int(size) for size in (columns, rows) if size]
    for size, axis in zip(tile, minor, strict=False):
      sizes[axis] = -(-sizes[axis] // size) * size
    total += hlo.Shape(dtype, tuple(sizes)).num_bytes
  return total


def _arriving(one: hlo.Instruction) -> int:
  """Bytes that a copy brings: its type holds source and destination, and of a
  slice the source is larger."""
  sizes = sorted((physical_bytes(match.group())
                  for match in _LAYOUT.finditer(one.type)), reverse=True)
  return sizes[1]


def _operand_bytes(computation: hlo.Computation, one: hlo.Instruction
                   ) -> list[int]:
  return [physical_bytes(computation.by_name[name].type)
          for name in one.operands
          if not computation.by_name[name].type.startswith('(')]


def _product_flops(computation: hlo.Computation, one: hlo.Instruction) -> int:
  """Operations of a product, without what windows multiply with padding."""
  if one.opcode == 'dot':
    dims = one.attribute(r'lhs_contracting_dims=\{([\d,]*)\}') or ''
    left = computation.by_name[one.operands[0]].shapes[0]
    return 2 * one.shapes[0].num_elements * math.prod(
        left.dims[int(dim)] for dim in dims.split(',') if dim)
  if one.opcode != 'convolution':
    return 0
  labels = one.attribute(r'dim_labels=(\S+?->\w+)') or ''
  match = re.fullmatch(r'(\w+)_(\w+)->(\w+)', labels)
  if match is None:
    raise ledger.UncountedError(
        f'{one.name}: a convolution without labels has no charge.')
  left_axes, right_axes, out = match.groups()
  inputs, filters = (computation.by_name[name].shapes[0].dims
                     for name in one.operands[:2])
  groups = int(one.attribute(r'batch_group_count=(\d+)') or 1)
  result = one.shapes[0].dims
  flops = 2 * filters[right_axes.index('i')] * result[out.index('f')] * (
      inputs[left_axes.index('b')] // groups)
  window = _Window.of(one)
  spatial = sorted(letter for letter in out if letter.isdigit())
  for index, letter in enumerate(spatial):
    flops *= window.positions(
        index, inputs[left_axes.index(letter)],
        filters[right_axes.index(letter)], result[out.index(letter)])
  return flops


@dataclasses.dataclass(frozen=True)
class _Window:
  """The window of a convolution; each a list by spatial axis, or empty."""
  stride: list[int]
  pad: list[int]
  lhs_dilate: list[int]
  rhs_dilate: list[int]

  @classmethod
  def of(cls, one: hlo.Instruction) -> '_Window':
    text = one.attribute(r'window=\{([^}]*)\}') or ''
    values = {}
    for name in ('stride', 'pad', 'lhs_dilate', 'rhs_dilate'):
      match = re.search(rf'(?:^| ){name}=(\S+)', text)
      values[name] = [int(part.split('_')[0])
                      for part in match.group(1).split('x')] if match else []
    return cls(**values)

  def positions(self, axis: int, size: int, taps: int, outputs: int) -> int:
    """Pairs of outputs and taps that meet data, along one axis."""
    stride, lhs, rhs = (
        values[axis] if values else 1
        for values in (self.stride, self.lhs_dilate, self.rhs_dilate))
    pad = self.pad[axis] if self.pad else 0
    count = 0
    for tap in range(taps):
      offset = tap * rhs - pad
      if lhs == 1:
        # 0 <= output * stride + offset < size
        first = max(0, -(offset // stride) if offset < 0 else 0)
        last = min(outputs - 1, (size - 1 - offset) // stride)
        count += max(0, last - first + 1)
      else:
        count += sum(
            1 for output in range(outputs)
            if (position := output * stride + offset) % lhs == 0 and
            0 <= position // lhs < size)
    return count
