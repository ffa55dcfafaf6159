"""What each kernel of a program compiled for a GPU costs: its own roofline.

A kernel takes the longer of its bytes over the memory's speed and its FLOPs
over what products reach, and a launch. Held against measurements in
docs/measurements/plans.md. It does not know caches, kernels that do badly or
kernels that run beside each other: it is best at telling programs apart.
"""
from collections.abc import Mapping
import dataclasses
import math
import types

from walt_jax.planning import collectives as collectives_lib
from walt_jax.planning import gpu_registers
from walt_jax.planning import gpu_topology
from walt_jax.planning import hlo
from walt_jax.planning import ledger
from walt_jax.planning import origins
from walt_jax.planning import pallas_kernels
from walt_jax.planning import roofline

LAUNCH_SECONDS = 1.5e-6
_PRODUCT_SHARE = .9  # Of what a product of 8192^3 reaches.
_WIDE_PRODUCTS = 1 / 16  # Of it, in full float32.
_FREE = frozenset((
    'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast',
    'after-all', 'partition-id', 'replica-id', 'iota', 'opt-barrier',
    'domain', 'add-dependency', 'get-dimension-size'))
# Plain passes: their operands are read and their results written once.
_PASSES = frozenset((
    'copy', 'copy-start', 'transpose', 'convert', 'broadcast', 'reshape',
    'concatenate', 'reduce', 'reduce-window', 'select-and-scatter', 'pad',
    'slice', 'dynamic-slice', 'dynamic-update-slice', 'gather', 'scatter',
    'reverse', 'rng-bit-generator', 'rng-get-and-update-state', 'select',
    'add', 'subtract', 'multiply', 'divide', 'compare', 'and', 'or', 'xor',
    'not', 'negate', 'maximum', 'minimum', 'exponential', 'log', 'tanh',
    'bitcast-convert', 'clamp', 'map', 'floor', 'shift-left',
    'shift-right-logical', 'remainder', 'sign', 'abs', 'rsqrt', 'sqrt'))
_SLICES = ('dynamic-slice', 'slice', 'gather')
_SHAPE_LETTERS = 90
_NO_PRODUCTS = pallas_kernels.Work()


@dataclasses.dataclass(frozen=True)
class Charger:
  """Charges instructions of one program.

  Attributes:
    program: The program.
    chip: What it was compiled for.
    kernels: Its Pallas kernels, from the trace.
    registers: Registers of those, by name.
    host_size: GPUs of a host.
  """
  program: hlo.Program
  chip: gpu_topology.GpuChip
  kernels: pallas_kernels.Kernels
  registers: Mapping[str, gpu_registers.Registers]
  host_size: int = gpu_topology.HOST_SIZE

  def __call__(self, computation: hlo.Computation, one: hlo.Instruction
               ) -> ledger.Charge | None:
    """See `ledger.ChargeOf`."""
    charge = self._charge_of(computation, one)
    if charge is None:
      return None
    op_name = origins.origin(self.program, computation, one)
    return dataclasses.replace(
        charge, op_name=op_name,
        part=ledger.part_of(op_name, is_product=charge.flops > 0))

  def _charge_of(self, computation: hlo.Computation, one: hlo.Instruction
                 ) -> ledger.Charge | None:
    if one.opcode in _FREE or one.opcode.endswith(('-done', '-update')):
      return None
    collective = collectives_lib.collective(one)
    if collective is not None:
      return self._collective(one, collective)
    if one.opcode == 'fusion':
      return self._fusion(one)
    if one.opcode == 'custom-call':
      return self._custom_call(computation, one)
    if one.opcode == 'sort':
      return self._sort(computation, one)
    if one.opcode not in _PASSES:
      raise ledger.UncountedError(
          f'{one.name}: a GPU ledger has no charge for {one.opcode!r}.')
    moved = _operand_bytes(computation, one) + one.num_bytes
    return self._charge(one, one.opcode, moved)

  def _charge(self, one: hlo.Instruction, kind: str, moved: int,
              work: pallas_kernels.Work = _NO_PRODUCTS) -> ledger.Charge:
    """The roofline of a kernel of the compiler's or a library's own."""
    rate = _PRODUCT_SHARE * self.chip.reached_flops
    products = work.flops / rate + work.wide_flops / (rate * _WIDE_PRODUCTS)
    memory = moved / self.chip.hbm_bandwidth
    return ledger.Charge(
        one.name, kind, '', '',
        one.type[:_SHAPE_LETTERS], 1, max(products, memory) + LAUNCH_SECONDS,
        moved, work.all_flops, 'products' if products > memory else 'bytes')

  def _collective(self, one: hlo.Instruction,
                  collective: collectives_lib.Collective) -> ledger.Charge:
    sent = int(roofline.transfer_bytes(collective))
    within = not collectives_lib.leaves_host(one, self.host_size)
    speed = (self.chip.link_bandwidth if within
             else self.chip.network_bandwidth)
    return ledger.Charge(
        one.name, collective.kind, '', '',
        collective.shape, 1, sent / speed + LAUNCH_SECONDS, sent, 0,
        'links of a host' if within else 'network between hosts')

  def _fusion(self, one: hlo.Instruction) -> ledger.Charge:
    inner = self.program.computations[one.called[0]]
    work = pallas_kernels.Work()
    for part in inner.instructions:
      if part.opcode == 'dot':
        work += _product(inner, part)
      elif part.opcode == 'convolution':
        raise ledger.UncountedError(
            f'{one.name}: a convolution inside of a fusion has no charge.')
    kind = ('fusion with product' if work.all_flops else
            f'fusion {one.attribute(r"kind=(k?[A-Za-z]+)")}')
    moved = sum(_read_bytes(inner, part) for part in inner.instructions
                if part.opcode == 'parameter')
    return self._charge(one, kind, moved + _written_bytes(inner, inner.root),
                        work)

  def _custom_call(self, computation, one) -> ledger.Charge:
    target = one.attribute(r'custom_call_target="([^"]*)"') or ''
    # A library's scratch counts as written, as it did when the ledger was held
    # against a measured step.
    moved = _operand_bytes(computation, one) + one.num_bytes
    if target.startswith('__cublas'):
      work = _product(computation, one)
      return self._charge(
          one, f'product {_operand_shapes(computation, one)[0].dtype}', moved,
          work)
    if target.startswith('__cudnn$conv'):
      return self._charge(one, 'convolution', moved,
                          _convolution(computation, one, target))
    if target in ('__gpu$xla.gpu.triton', 'triton_kernel_call'):
      return self._kernel(one)
    if target.startswith('__cub$'):
      return self._sort(computation, one)
    if target in ('__gpu$TopK', 'annotate_device_placement'):
      return self._charge(one, target, moved)
    raise ledger.UncountedError(
        f'{one.name}: a GPU ledger has no charge for the custom call '
        f'{target!r}.')

  def _kernel(self, one: hlo.Instruction) -> ledger.Charge:
    """A Pallas kernel: the largest of its products, exponentials, bytes."""
    name = one.attribute(r'[ {,]name = "([^"]*)"') or (
        one.op_name.split('/')[-2:-1] or [''])[0]
    results = tuple(str(shape) for shape in one.shapes)
    if (name, results) not in self.kernels:
      raise ledger.UncountedError(
          f'{one.name}: the Pallas kernel {name!r} with results '
          f'{", ".join(results)} is not in the trace.')
    work = self.kernels[name, results].work
    wide = (_PRODUCT_SHARE * self.chip.reached_flops * _WIDE_PRODUCTS)
    seconds, how = max(
        (work.flops / self.chip.kernel_flops + work.wide_flops / wide,
         'products of the traced kernel'),
        (work.exponentials / self.chip.exponentials,
         'exponentials of the traced kernel'),
        (work.bytes / self.chip.hbm_bandwidth,
         'loads and stores of the traced kernel'))
    return ledger.Charge(
        one.name, f'kernel {name}', '', '',
        one.type[:_SHAPE_LETTERS], 1, seconds + LAUNCH_SECONDS, work.bytes,
        work.all_flops, how, registers=self._registers(name))

  def _registers(self, name: str) -> str:
    found = self.registers.get(name)
    return '' if found is None else (
        f'{found.registers} registers, {found.spilled_bytes} bytes spilled')

  def _sort(self, computation, one) -> ledger.Charge:
    """A radix sort: a pass over all for each byte of the keys."""
    shapes = _operand_shapes(computation, one)
    passes = shapes[0].num_bytes // max(shapes[0].num_elements, 1)
    moved = 2 * passes * sum(shape.num_bytes for shape in shapes)
    return self._charge(one, 'sort', moved)


def gpu_ledger(text: str, chip: gpu_topology.GpuChip,
               kernels: pallas_kernels.Kernels,
               registers: Mapping[str, gpu_registers.Registers] = (
                   types.MappingProxyType({})),
               host_size: int = gpu_topology.HOST_SIZE) -> ledger.Ledger:
  """Charges a program.

  Args:
    text: `jax.stages.Compiled.as_text()`.
    chip: What it was compiled for.
    kernels: See `pallas_kernels.kernels`.
    registers: Registers of the kernels by name, where they were asked for.
    host_size: GPUs of a host.

  Raises:
    UncountedError: On what has no charge, or a loop without a known count.
  """
  program = hlo.parse(text)
  return ledger.charge_program(program, Charger(
      program, chip, kernels, registers, host_size))


def _operand_shapes(computation: hlo.Computation, one: hlo.Instruction
                    ) -> list[hlo.Shape]:
  """Arrays that an instruction takes; tuples are handed on unread."""
  found: list[hlo.Shape] = []
  for name in one.operands:
    operand = computation.by_name[name]
    if not operand.type.startswith('('):
      found += operand.shapes
  return found


def _operand_bytes(computation: hlo.Computation, one: hlo.Instruction) -> int:
  return sum(shape.num_bytes for shape in _operand_shapes(computation, one))


def _read_bytes(inner: hlo.Computation, one: hlo.Instruction,
                depth: int = 0) -> int:
  """Bytes that a fusion reads of its parameter: where it only slices, the
  slices."""
  users = inner.users.get(one.name, [])
  if users and all(
      user.opcode in _SLICES or (user.opcode == 'dynamic-update-slice' and
                                 user.operands[0] == one.name)
      for user in users):
    return sum(user.num_bytes for user in users if user.opcode in _SLICES)
  if users and depth < 3 and all(user.opcode == 'bitcast' for user in users):
    return sum(_read_bytes(inner, user, depth + 1) for user in users)
  return one.num_bytes


def _written_bytes(inner: hlo.Computation, one: hlo.Instruction) -> int:
  """Bytes that a fusion writes: of an update in place, the update."""
  if one.opcode == 'dynamic-update-slice':
    return inner.by_name[one.operands[1]].num_bytes
  if one.opcode == 'bitcast':
    return _written_bytes(inner, inner.by_name[one.operands[0]])
  if one.opcode == 'tuple':
    return sum(_written_bytes(inner, inner.by_name[name])
               for name in one.operands)
  return one.num_bytes


def _product(computation: hlo.Computation, one: hlo.Instruction
             ) -> pallas_kernels.Work:
  """Work of a `dot` or of a call of cuBLAS."""
  dims = one.attribute(r'lhs_contracting_dims=\{([\d,]*)\}')
  if dims is None:
    dims = one.attribute(r'"lhs_contracting_dimensions":\[([^\]]*)\]')
  if dims is None:
    raise ledger.UncountedError(
        f'{one.name}: a product without contracted axes has no charge.')
  left = _operand_shapes(computation, one)[0]
  contracted = math.prod(
      left.dims[int(dim)] for dim in dims.replace('"', '').split(',') if dim)
  flops = 2 * one.shapes[0].num_elements * contracted
  return _of_type(left, flops)


def _convolution(computation: hlo.Computation, one: hlo.Instruction,
                 target: str) -> pallas_kernels.Work:
  """Work of a convolution by cuDNN, forward or backward, padding included."""
  left, right, *_ = _operand_shapes(computation, one)
  labels = one.attribute(r'dim_labels=\w+_(\w+)->')
  # (activations on the side of the outputs, filter)
  sides = {'__cudnn$convBackwardInput': (left, right),
           '__cudnn$convBackwardFilter': (right, one.shapes[0])}
  outputs, filters = sides.get(target, (one.shapes[0], right))
  if labels is None or 'o' not in labels:
    raise ledger.UncountedError(
        f'{one.name}: a convolution without labels has no charge.')
  taps = math.prod(filters.dims) // filters.dims[labels.index('o')]
  return _of_type(left, 2 * outputs.num_elements * taps)


def _of_type(left: hlo.Shape, flops: int) -> pallas_kernels.Work:
  if left.dtype in ('f32', 'f64'):
    return pallas_kernels.Work(wide_flops=flops)
  return pallas_kernels.Work(flops=flops)
