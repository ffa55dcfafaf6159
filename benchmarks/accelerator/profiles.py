"""Where a step's time goes on the device, beside what the ledger charges."""
from collections.abc import Callable, Mapping
import pathlib
import tempfile
from typing import Any

import jax

from walt_jax.planning import gpu_charges
from walt_jax.planning import gpu_topology
from walt_jax.planning import hlo
from walt_jax.planning import ledger
from walt_jax.planning import pallas_kernels

_CALLERS = ('while', 'call', 'conditional')
# Kernels of a graph that is launched whole do not say what they compute.
ENVIRONMENT = {'XLA_FLAGS': '--xla_gpu_enable_command_buffer='}


def measure(run: Callable[[], None], steps: int, *, kernels: bool = False
            ) -> dict[str, float]:
  """Seconds of a step, from the profiler.

  Args:
    run: One step, done when it returns.
    steps: Steps to profile.
    kernels: Whether to name what ran by the kernel, instead of by the
      program's instruction that it computes.
  """
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(steps):
        run()
    files = list(pathlib.Path(folder).rglob('*.xplane.pb'))
    found: dict[str, float] = {}
    for file in files:
      profile = jax.profiler.ProfileData.from_file(str(file))
      for name, seconds in _events(profile, kernels):
        found[name] = found.get(name, 0.0) + seconds / steps
  return found


def _events(profile, kernels):
  """(name, seconds) of every event that computes an instruction."""
  planes = list(profile.planes)
  devices = [plane for plane in planes if plane.name.startswith('/device:')]
  for plane in devices or planes:  # A CPU's kernels run on the host's plane.
    for line in plane.lines:
      for event in line.events:
        name = next(
            (value for key, value in event.stats if key == 'hlo_op'), None)
        if name:
          yield (event.name if kernels else str(name),
                 event.duration_ns * 1e-9)


def ledger_of(traced: jax.stages.Traced, text: str, device_kind: str
              ) -> tuple[ledger.Ledger | None, str]:
  """What the ledger charges for a compiled program of a GPU.

  Args:
    traced: The program, for its Pallas kernels.
    text: The program, compiled for this very device.
    device_kind: Such as 'NVIDIA H100 80GB HBM3'.

  Returns:
    The ledger and ''; or None, and why there is none.
  """
  words = device_kind.lower().replace(' ', '')
  chip = next((chip for name, chip in gpu_topology.CHIPS.items()
               if name in words), None)
  if chip is None:
    return None, f'no charges for {device_kind}'
  try:
    return gpu_charges.gpu_ledger(
        text, chip, pallas_kernels.kernels_of(traced)), ''
  except ledger.UncountedError as e:  # A compiler that tunes has more kernels.
    return None, str(e)


def beside_ledger(measured: Mapping[str, float], text: str,
                  charges: ledger.Ledger | None, largest: int = 20
                  ) -> dict[str, Any]:
  """Sums by part of the model, and the kernels that differ most.

  Args:
    measured: Seconds by instruction, see `measure`.
    text: The compiled program, to know what an instruction serves.
    charges: What the ledger says of the same text; None where this chip has no
      charges.
    largest: Number of kernels to list.
  """
  program = hlo.parse(text)
  instructions = [one for computation in program.computations.values()
                  for one in computation.instructions]
  parts = {one.name: ledger.part_of(one.op_name) for one in instructions}
  # A CPU also times what only runs others.
  callers = {one.name for one in instructions if one.opcode in _CALLERS}
  measured = {name: seconds for name, seconds in measured.items()
              if name not in callers}
  charged: dict[str, float] = {}
  for charge in charges.charges if charges else ():
    charged[charge.name] = (
        charged.get(charge.name, 0.0) + charge.times * charge.seconds)
  by_part: dict[str, list[float]] = {}
  for names, index in ((measured, 0), (charged, 1)):
    for name, seconds in names.items():
      sums = by_part.setdefault(parts.get(name, ledger.REST), [0.0, 0.0])
      sums[index] += seconds
  gaps = sorted(set(measured) | set(charged), key=lambda name: -abs(
      measured.get(name, 0.0) - charged.get(name, 0.0)))
  row = lambda seconds, charge: dict(
      ms=round(1e3 * seconds, 3),
      **(dict(ledger_ms=round(1e3 * charge, 3)) if charges else {}))
  return dict(
      **row(sum(measured.values()), sum(charged.values())),
      by_part={part: row(*sums) for part, sums in sorted(
          by_part.items(), key=lambda item: -item[1][0])},
      largest_gaps=[
          dict(name=name, part=parts.get(name, ledger.REST),
               **row(measured.get(name, 0.0), charged.get(name, 0.0)))
          for name in gaps[:largest]])
