"""The named programs of a plan, each compiled, charged and checked alike."""
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax

from walt_jax.planning import aot
from walt_jax.planning import collectives as collectives_lib
from walt_jax.planning import counting
from walt_jax.planning import ledger as ledger_lib
from walt_jax.planning import places
from walt_jax.planning import roofline as roofline_lib

# Charges of a program in the JSON, the costliest first.
_CHARGES = 60


@dataclasses.dataclass(frozen=True)
class Program:
  """One program of a plan.

  Attributes:
    name: Such as 'train step'.
    traced: The program, traced for the devices of a place.
    model_flops: FLOPs that the model needs, whole mesh, no recomputation;
      None: those that are executed.
  """
  name: str
  traced: jax.stages.Traced
  model_flops: int | None = None


@dataclasses.dataclass(frozen=True)
class Found:
  """What is known of a compiled program.

  Attributes:
    name: Name of the program.
    place: What it was compiled for.
    compiled: Memory and collectives.
    ledger: Its charges; None where it does not fit a TPU.
    executed_flops: Products as they run, whole mesh.
    model_flops: Those that the model needs.
  """
  name: str
  place: places.Place
  compiled: aot.Compiled
  ledger: ledger_lib.Ledger | None
  executed_flops: int
  model_flops: int

  @property
  def fits(self) -> bool:
    return self.compiled.error is None

  @property
  def seconds(self) -> float | None:
    """Predicted time, no collective hidden; None where nothing supports
    it."""
    if self.ledger is None or self.ledger.refusals:
      return None
    return self.ledger.seconds

  @property
  def overlapped_seconds(self) -> float | None:
    """The same with collectives hidden wherever work allows."""
    return None if self.seconds is None or self.ledger is None else (
        self.ledger.overlapped_seconds)

  def mfu(self, seconds: float | None) -> float | None:
    """Model FLOPs over the chips' peak in a time."""
    return seconds and self.model_flops / (
        seconds * self.place.num_chips * self.place.chip.peak_flops)

  @property
  def roofline(self) -> roofline_lib.Roofline:
    """The estimate that takes the chips at their word."""
    return roofline_lib.roofline(
        self.place.chip, self.place.num_chips, model_flops=self.model_flops,
        executed_flops=max(self.executed_flops, self.model_flops),
        moved=self.compiled.collectives, num_slices=self.place.num_slices)

  def as_json(self) -> dict[str, Any]:
    """Plain values; keys in docs/scaling.md."""
    chip, step = self.place.chip, self.compiled
    result: dict[str, Any] = dict(
        name=self.name, fits=self.fits,
        hbm_capacity_bytes=chip.hbm_bytes,
        hbm_needed_bytes=chip.num_devices * step.needed_bytes,
        compile_seconds=step.seconds)
    if step.error is not None:
      return result | dict(compiler_message=step.error)
    roofline = self.roofline
    result |= dict(
        executed_flops=self.executed_flops, model_flops=self.model_flops,
        predicted_seconds=self.seconds,
        predicted_mfu=self.mfu(self.seconds),
        predicted_overlapped_seconds=self.overlapped_seconds,
        predicted_overlapped_mfu=self.mfu(self.overlapped_seconds),
        roofline_seconds=roofline.step_seconds,
        roofline_slow_seconds=roofline.slow_step_seconds,
        roofline_mfu=roofline.mfu, roofline_slow_mfu=roofline.slow_mfu,
        weight_rings=sum(one.count for one in step.collectives
                         if one.is_ring),
        collectives=collectives_lib.totals(step.collectives))
    if self.ledger is not None:
      result['ledger'] = self.ledger.as_json(_CHARGES)
    return result


def compiled(program: Program, place: places.Place, effort: float) -> Found:
  """Compiles and charges a program."""
  executed = counting.flops_of(program.traced)
  step, ledger = place.compile(program.traced, effort)
  return Found(program.name, place, step, ledger, executed,
               program.model_flops or executed)


def table(found: Sequence[dict[str, Any]], num_charges: int) -> list[str]:
  """Lines about programs, as `Found.as_json` gives them."""
  lines = []
  for one in found:
    lines.append(f'program {one["name"]}:')
    if not one['fits']:
      lines.append('  does not fit')
      continue
    lines += [
        f'  roofline                       {one["roofline_seconds"]:.4g} - '
        f'{one["roofline_slow_seconds"]:.4g} s, MFU '
        f'{one["roofline_mfu"]:.3f} - {one["roofline_slow_mfu"]:.3f}',
        *_predicted(one)]
    ledger = one.get('ledger')
    if ledger:
      lines += [
          f'  {part:<30} {total["seconds"]:.4g} s, '
          f'{total["seconds"] / ledger["seconds"]:.1%}'
          for part, total in ledger['by_part'].items()
          if total['seconds'] >= .002 * ledger['seconds']]
      lines += [_charge(charge) for charge in ledger['charges'][:num_charges]]
  return lines


def _predicted(one: dict[str, Any]) -> list[str]:
  if one['predicted_seconds'] is None:
    reasons = one['ledger']['refusals']
    return [f'  no prediction: {reason}' for reason in reasons]
  return [
      f'  ledger, collectives hidden     '
      f'{one["predicted_overlapped_seconds"]:.4g} s, MFU '
      f'{one["predicted_overlapped_mfu"]:.3f}',
      f'  ledger, not hidden             {one["predicted_seconds"]:.4g} s, '
      f'MFU {one["predicted_mfu"]:.3f}']


def _charge(charge: dict[str, Any]) -> str:
  milliseconds = 1e3 * charge['times'] * charge['seconds']
  return (f'    {milliseconds:9.3f} ms  x {charge["times"]:<6} '
          f'{charge["kind"]:<22} {charge["part"]}; {charge["shape"]}; '
          f'{charge["op_name"]}')
