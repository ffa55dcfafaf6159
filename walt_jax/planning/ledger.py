"""What every kernel of a compiled program costs, and what that adds up to.

The charges come from `gpu_charges` or `tpu_charges`; this module holds what
is the same for all chips: the data, the walk through a program, the sums.
Nothing counts as zero because it is not known: an instruction without a
charge and a loop without a count are errors, and a total that must not be
used says why.
"""
from collections.abc import Callable, Iterable
import dataclasses
import re
from typing import Any

from walt_jax.planning import collectives as collectives_lib
from walt_jax.planning import hlo

UncountedError = hlo.UncountedError

ATTENTION_CORE = 'attention core'
QK_NORM = 'QK norm'
PROJECTIONS = 'projections'
WINDOWS = 'window transposes and casts'
RELATIVE_BIAS = 'relative bias'
MLP_PRODUCTS = 'MLP products'
MLP_PASSES = 'MLP passes'
MODULATION = 'modulation'
NORMS = 'norms'
RESIDUAL = 'residual'
SCAN_RESIDUALS = 'scan residuals'
UPDATE = 'optimizer, EMA and guard'
ENDS = 'embedding and final layer'
TEXT = 'text encoder'
ENCODER = 'tokenizer encoder'
DECODER = 'tokenizer decoder'
DISCRIMINATOR = 'discriminator'
REST = 'rest'
FLOPS_TOLERANCE = .03
# XLA:TPU cuts the rows of frames into batches for convolutions, each with a
# column or two of its neighbour, which are computed twice: 12% more in all for
# the encoder of clips of 17 x 128 x 128.
HALO_TOLERANCE = .25
# The first pattern that is found in an instruction's op_name decides.
_PARTS = tuple((re.compile(pattern), part) for pattern, part in (
    (r'\b(T5Encoder|Bert)\b', TEXT),
    (r'^jit\(step\)/(?!.*(jvp|threefry|random_))', UPDATE),
    (r'attention/(.*/)?(query|key)_norm', QK_NORM),
    (r'attention/(.*/)?(query|key|value|out)\b', PROJECTIONS),
    (r'ktyx|ktyab|ktcdab|relative_bias', RELATIVE_BIAS),
    (r'attention/(.*/)?(vmap|\w*attention\w*(forward|backward)|pallas_call)',
     ATTENTION_CORE),
    (r'attention\b', WINDOWS),
    (r'\bmlp/.*dot_general', MLP_PRODUCTS),
    (r'\bmlp/', MLP_PASSES),
    (r'modulation\b', MODULATION),
    (r'_layers\b(?!.*(spatial|spacetime)\b)', SCAN_RESIDUALS),
    (r'\bencode', ENCODER),
    (r'\bdecode', DECODER),
    (r'[Dd]iscriminator', DISCRIMINATOR),
    (r'norm\b', NORMS),
    (r'\b(spatial|spacetime)\b', RESIDUAL),
    (r'Denoiser|embedding|\bhead\b', ENDS),
))
_OF_PRODUCTS = {MLP_PASSES: MLP_PRODUCTS, WINDOWS: ATTENTION_CORE}
PARTS = (*dict.fromkeys(part for _, part in _PARTS), REST)


def part_of(op_name: str, is_product: bool = False) -> str:
  """The part of the model, one of `PARTS`, that an instruction serves.

  Args:
    op_name: Where it comes from, see `origins`.
    is_product: Whether it is a product of matrices, which the name of a
      gradient does not tell.
  """
  for pattern, part in _PARTS:
    if pattern.search(op_name):
      return _OF_PRODUCTS.get(part, part) if is_product else part
  return REST


@dataclasses.dataclass(frozen=True)
class Charge:
  """What one kernel costs on one device; seconds, bytes, FLOPs of one call.

  Attributes:
    name: Name of its instruction.
    kind: Kind of kernel, such as 'product' or 'fusion kLoop'.
    part: Part of the model, one of `PARTS`.
    op_name: Where it comes from in the traced program.
    shape: Type of its result, shortened.
    times: Calls of the program.
    seconds: Time of a call.
    bytes: Bytes moved to and from the device's memory; those of a collective
      are the ones that the device sends.
    flops: Operations of its products.
    how: What the time was taken from.
    hidden_seconds: Part of a collective's time during which the device has
      other work that does not wait for it.
    registers: What the assembler says of its registers, where it was asked.
  """
  name: str
  kind: str
  part: str
  op_name: str
  shape: str
  times: int
  seconds: float
  bytes: int
  flops: int
  how: str
  hidden_seconds: float = 0.
  registers: str = ''

  @property
  def is_collective(self) -> bool:
    return self.kind in collectives_lib.KINDS


@dataclasses.dataclass(frozen=True)
class Total:
  """A sum over charges and their calls."""
  seconds: float = 0.
  bytes: int = 0
  flops: int = 0
  calls: int = 0

  def add(self, charge: Charge) -> 'Total':
    return Total(self.seconds + charge.times * charge.seconds,
                 self.bytes + charge.times * charge.bytes,
                 self.flops + charge.times * charge.flops,
                 self.calls + charge.times)


@dataclasses.dataclass(frozen=True)
class Ledger:
  """A program's charges.

  Attributes:
    charges: Every kernel, the costliest first.
    refusals: Why the totals are no figures to use; empty where they are.
  """
  charges: tuple[Charge, ...]
  refusals: tuple[str, ...] = ()

  @property
  def seconds(self) -> float:
    """Time of the program, no collective hidden."""
    return _sum(self.charges).seconds

  @property
  def compute_seconds(self) -> float:
    """Time of all but the collectives."""
    return self.seconds - self.collective_seconds

  @property
  def collective_seconds(self) -> float:
    """Time of all collectives, one after the other."""
    return _sum(one for one in self.charges if one.is_collective).seconds

  @property
  def hidden_seconds(self) -> float:
    """Time of the collectives that other work can hide."""
    return sum(one.times * one.hidden_seconds for one in self.charges)

  @property
  def overlapped_seconds(self) -> float:
    """Time of the program if collectives hide wherever they can."""
    return self.seconds - self.hidden_seconds

  @property
  def bytes(self) -> int:
    """Bytes to and from the device's memory, collectives aside."""
    return _sum(one for one in self.charges if not one.is_collective).bytes

  @property
  def flops(self) -> int:
    return _sum(self.charges).flops

  @property
  def kernels(self) -> int:
    """Kernels that one run launches."""
    return _sum(self.charges).calls

  def by_part(self) -> dict[str, Total]:
    """Totals by part of the model, the costliest first."""
    return _totals(self.charges, lambda one: one.part)

  def compute_by_part(self) -> dict[str, Total]:
    """The same without collectives."""
    return _totals((one for one in self.charges if not one.is_collective),
                   lambda one: one.part)

  def by_kind(self) -> dict[str, Total]:
    """Totals by kind of kernel, the costliest first."""
    return _totals(self.charges, lambda one: one.kind)

  def refused(self, *reasons: str) -> 'Ledger':
    """The ledger with more reasons not to use its totals."""
    return dataclasses.replace(self, refusals=(*self.refusals, *reasons))

  def as_json(self, num_charges: int | None = None) -> dict[str, Any]:
    """Plain values; the costliest `num_charges` charges, by default all.

    Equal kernels are one charge: without a loop over layers each layer has its
    own, all alike.
    """
    return dict(
        seconds=self.seconds, compute_seconds=self.compute_seconds,
        collective_seconds=self.collective_seconds,
        hidden_collective_seconds=self.hidden_seconds,
        overlapped_seconds=self.overlapped_seconds,
        bytes=self.bytes, flops=self.flops, kernels=self.kernels,
        refusals=list(self.refusals),
        by_part={name: dataclasses.asdict(total)
                 for name, total in self.by_part().items()},
        compute_by_part={
            name: dataclasses.asdict(total)
            for name, total in self.compute_by_part().items()},
        by_kind={name: dataclasses.asdict(total)
                 for name, total in self.by_kind().items()},
        charges=[dataclasses.asdict(one)
                 for one in _joined(self.charges)[:num_charges]])


def checked(found: Ledger, *, executed_flops: int, needed_bytes: int,
            capacity_bytes: int, distinct_flops: int | None = None,
            tolerance_above: float = FLOPS_TOLERANCE) -> Ledger:
  """The ledger, with what speaks against its totals.

  Args:
    found: Ledger of a program.
    executed_flops: Products of the traced program on one device, see
      `counting.product_flops`.
    needed_bytes: Arguments, results and temporaries of one device.
    capacity_bytes: What a program can have of its memory.
    distinct_flops: The least that it may come to, where a compiler does equal
      work once, see `distinct`; None: all of it.
    tolerance_above: Share by which it may be more than was traced.
  """
  reasons = []
  least = executed_flops if distinct_flops is None else distinct_flops
  for wrong, tolerance in (
      (found.flops < least * (1 - FLOPS_TOLERANCE), FLOPS_TOLERANCE),
      (found.flops > executed_flops * (1 + tolerance_above), tolerance_above)):
    if wrong:
      reasons.append(
          f'the charges hold {found.flops:.4g} FLOPs and the traced program '
          f'{executed_flops:.4g}, more than {tolerance:.0%} apart')
  if needed_bytes > capacity_bytes:
    reasons.append(
        f'it needs {needed_bytes / 2**30:.1f} GiB, and a program can have '
        f'{capacity_bytes / 2**30:.1f} GiB')
  return found.refused(*reasons)


def _joined(charges: Iterable[Charge]) -> list[Charge]:
  """Charges of equal kernels as one that is called as often, costliest first.
  """
  found: dict[Any, Charge] = {}
  for one in charges:
    key = (one.kind, one.part, one.shape, one.seconds, one.hidden_seconds)
    if key in found:
      one = dataclasses.replace(found[key], times=found[key].times + one.times)
    found[key] = one
  return sorted(found.values(), key=lambda one: -one.times * one.seconds)


def _sum(charges: Iterable[Charge]) -> Total:
  total = Total()
  for one in charges:
    total = total.add(one)
  return total


def _totals(charges: Iterable[Charge], key: Callable[[Charge], str]
            ) -> dict[str, Total]:
  found: dict[str, Total] = {}
  for one in charges:
    found[key(one)] = found.get(key(one), Total()).add(one)
  return dict(sorted(found.items(), key=lambda item: -item[1].seconds))


# Charges one instruction that no loop, call or conditional is; None is one
# that runs nothing. Raises `UncountedError` where the cost is not known.
ChargeOf = Callable[[hlo.Computation, hlo.Instruction], Charge | None]


# Of instructions by their index: where that which they start ends.
EndsOf = Callable[[hlo.Computation], dict[int, int]]


def ends_of(computation: hlo.Computation) -> dict[int, int]:
  """Where that which is started at an index ends, by their opcodes."""
  starts = {one.name: index
            for index, one in enumerate(computation.instructions)
            if one.opcode.endswith('-start')}
  return {starts[operand]: index
          for index, one in enumerate(computation.instructions)
          if one.opcode.endswith('-done')
          for operand in one.operands if operand in starts}


def charge_program(program: hlo.Program, charge_of: ChargeOf,
                   ends: EndsOf = ends_of) -> Ledger:
  """Charges every instruction as often as it runs.

  Loops count their turns; of a conditional the costliest branch counts.
  Fusions and custom calls are handed to `charge_of` whole. Of a copy that is
  started and ended the part counts that work between the two does not hide.

  Raises:
    UncountedError: On a loop without a known count, or an instruction that
      `charge_of` cannot charge.
  """
  done: dict[str, list[Charge]] = {}

  def charges_of(name: str) -> list[Charge]:
    if name not in done:
      computation = program.computations[name]
      done[name] = _charges(program, computation, charge_of, charges_of,
                            ends(computation))
    return done[name]

  charges = charges_of(program.entry)
  return Ledger(tuple(sorted(
      charges, key=lambda one: -one.times * one.seconds)))


def _charges(program, computation, charge_of, charges_of, ends
             ) -> list[Charge]:
  """Charges of one run of a computation."""
  groups: list[list[Charge]] = []  # One of each instruction.
  for one in computation.instructions:
    if one.opcode == 'while':
      turns = program.turns(one)
      groups.append([dataclasses.replace(charge, times=turns * charge.times)
                     for charge in charges_of(program.body(one).name)])
    elif one.opcode == 'conditional':
      branches = [charges_of(name) for name in one.called]
      groups.append(max(
          branches, key=lambda branch: _sum(branch).seconds, default=[]))
    elif one.opcode in ('call', 'async-start'):
      groups.append([charge for name in one.called
                     for charge in charges_of(name)])
    else:
      charge = charge_of(computation, one)
      groups.append([charge] if charge else [])
  _hide(ends, groups)
  return [charge for group in groups for charge in group]


def _hide(ends: dict[int, int], groups: list[list[Charge]]) -> None:
  """Sets how much of what is started the work before its end hides.

  The text's order is that of the schedule. Work hides one collective and one
  copy: links and the memory's own engines are not the same. Collectives keep
  their time and say what is hidden; copies keep what is not.
  """
  started = [start for start in ends if len(groups[start]) == 1]
  work = [sum(one.times * one.seconds for one in group
              if not one.is_collective) for group in groups]
  for start in started:
    if not groups[start][0].is_collective:
      work[start] = 0.
  left = {True: list(work), False: list(work)}
  for start in sorted(started):
    charge = groups[start][0]
    free = left[charge.is_collective]
    missing = charge.seconds
    for index in range(start + 1, ends[start]):
      hidden = min(missing, free[index])
      free[index] -= hidden
      missing -= hidden
    groups[start] = [dataclasses.replace(
        charge, hidden_seconds=charge.seconds - missing)
                     if charge.is_collective else
                     dataclasses.replace(charge, seconds=missing)]
