"""Absent devices that a plan compiles for: slices of TPUs, hosts of GPUs."""
from collections.abc import Callable
import dataclasses
import functools

import jax

from walt_jax.core import errors
from walt_jax.planning import aot
from walt_jax.planning import gpu_programs
from walt_jax.planning import gpu_topology
from walt_jax.planning import ledger as ledger_lib
from walt_jax.planning import topology
from walt_jax.planning import tpu_programs

Compiled = tuple[aot.Compiled, ledger_lib.Ledger | None]


@dataclasses.dataclass(frozen=True)
class Place:
  """Where programs are compiled for.

  Attributes:
    name: Such as 'v5p:4x4x4' or 'h100:4x8'.
    chip: Figures of its chips; of GPUs as `gpu_chip` gives them.
    num_chips: Chips of all slices.
    devices: JAX devices, to make a mesh of.
    compile: Compiles a traced program at an effort for speed, see `aot`, and
      charges it; there is no ledger where the compiler gives no program.
    notes: What the predicted times take for granted.
    num_slices: Slices of TPUs, hosts of GPUs.
  """
  name: str
  chip: topology.Chip
  num_chips: int
  devices: tuple[jax.Device, ...]
  compile: Callable[[jax.stages.Traced, float], Compiled]
  notes: tuple[str, ...]
  num_slices: int = 1

  @property
  def is_gpus(self) -> bool:
    """Whether its chips are GPUs."""
    return gpu_topology.is_gpus(self.name)


def parse(name: str) -> None:
  """Checks the name of a topology.

  Raises:
    UserError: If it is none.
  """
  if gpu_topology.is_gpus(name):
    gpu_topology.parse(name)
  else:
    topology.parse(name)


def get(name: str) -> Place:
  """Describes absent devices.

  Raises:
    UserError: If there are none of that name, or what compiles for them is
      not installed.
  """
  if gpu_topology.is_gpus(name):
    gpus = gpu_topology.get_gpus(name)
    return Place(
        gpus.name, gpu_chip(gpus.chip), gpus.num_chips, gpus.devices,
        lambda traced, _: gpu_programs.compile_program(traced, gpus),
        (f'rates of a {gpus.chip.name}: {gpus.chip.source}',
         'each kernel takes the longer of its bytes and its products, and a '
         'launch'), gpus.num_hosts)
  place = topology.get_slice(name)
  chip = place.chip
  notes = [f'cycles that the compiler estimates, at {chip.clock / 1e9:g} GHz',
           'a Pallas kernel takes its static bundles, or its bytes']
  if chip.assumed:
    notes.append(f'assumed, not published: {chip.assumed}')
  return Place(
      place.name, chip, place.num_chips, place.devices,
      functools.partial(tpu_programs.compile_program, place), tuple(notes),
      place.num_slices)


def slice_of(name: str, flag: str) -> topology.Slice:
  """A slice of TPUs, for what other devices do not have.

  Raises:
    UserError: On GPUs.
  """
  if gpu_topology.is_gpus(name):
    raise errors.UserError(
        f'--{flag} compiles for a TPU --topology such as v5p:4x4x4, not for '
        f'{name}; leave it out')
  return topology.get_slice(name)


def gpu_chip(chip: gpu_topology.GpuChip) -> topology.Chip:
  """A GPU's figures as the roofline takes them: one axis of links inside of a
  host, and the network between hosts."""
  return topology.Chip(
      chip.name, chip.name, 1, chip.peak_flops, chip.hbm_bytes,
      chip.hbm_bandwidth, chip.link_bandwidth / 2, 1, chip.network_bandwidth,
      clock=0.)
