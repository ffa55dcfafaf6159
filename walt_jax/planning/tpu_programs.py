"""Compiling for absent TPUs: memory, collectives and a ledger."""
import jax

from walt_jax.planning import aot
from walt_jax.planning import counting
from walt_jax.planning import ledger
from walt_jax.planning import mosaic_kernels
from walt_jax.planning import topology
from walt_jax.planning import tpu_charges


def compile_program(
    place: topology.Slice, traced: jax.stages.Traced,
    effort: float = aot.DEFAULT_EFFORT,
) -> tuple[aot.Compiled, ledger.Ledger | None]:
  """Compiles a program and charges its kernels.

  Args:
    place: What it is compiled for.
    traced: The program, traced for devices of `place.devices`.
    effort: Effort of the compiler for speed, see `aot`.

  Returns:
    Memory and collectives, and the ledger; None where the program does not
    fit, which XLA then does not give. Of one that holds what has no charge
    the ledger is empty and refused.
  """
  lowered = traced.lower()
  compiled = aot.compile_program(lowered, effort)
  if compiled.error is not None:
    return compiled, None
  chip = place.chip
  try:
    charged = tpu_charges.tpu_ledger(
        compiled.text, place, mosaic_kernels.costs(traced, place))
  except ledger.UncountedError as e:
    # Memory and collectives are known all the same.
    return compiled, ledger.Ledger((), (str(e),))
  above = (ledger.HALO_TOLERANCE if counting.has_convolutions(traced)
           else ledger.FLOPS_TOLERANCE)
  return compiled, ledger.checked(
      charged, executed_flops=counting.flops_of(traced) // num_devices(lowered),
      needed_bytes=compiled.needed_bytes,
      capacity_bytes=chip.hbm_bytes // chip.num_devices,
      tolerance_above=above)


def num_devices(lowered: jax.stages.Lowered) -> int:
  """Devices that a program runs on, of all slices.

  The compiled text counts those of one slice.
  """
  attributes = lowered.compiler_ir().operation.attributes
  return int(attributes['mhlo.num_partitions'].value)
