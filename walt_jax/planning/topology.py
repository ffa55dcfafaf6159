"""TPU slices that are not there, and what their chips can do.

XLA compiles for an absent slice when `libtpu` is installed (the extra
`tpu_plan`): no TPU is opened, and nothing is run.
"""
import contextlib
import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from walt_jax.core import errors
from walt_jax.core import extras
from walt_jax.planning import gpu_topology

_GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Chip:
  """Figures of one chip; per chip, not per JAX device.

  Attributes:
    name: Name of the chip, as topologies write it.
    library_name: What libtpu calls it.
    num_devices: JAX devices that a chip shows.
    peak_flops: Dense bfloat16 operations/s, as published.
    hbm_bytes: What a program can have, as libtpu's compiler states it.
    hbm_bandwidth: Bytes/s, as published.
    link_bandwidth: Bytes/s of one inter-chip link in one direction; a chip has
      two links a torus axis.
    torus_axes: Axes of the interconnect's torus.
    network_bandwidth: Bytes/s that a chip's share of its host's network cards
      sends to other slices.
    clock: Cycles/s of the cores, by which the compiler's cycles become time.
    num_cores: Cores that share the work of one JAX device.
    assumed: What of these is neither published nor stated by the compiler.
  """
  name: str
  library_name: str
  num_devices: int
  peak_flops: float
  hbm_bytes: int
  hbm_bandwidth: float
  link_bandwidth: float
  torus_axes: int
  network_bandwidth: float
  clock: float
  num_cores: int = 1
  assumed: str = ''


# Clocks of v4, v5e and v5p as published; the other two are those at which four
# arrays of 256 x 256 multipliers a core reach the published peak. Network cards
# of v5e and v6e as published, 2 x 100 and 4 x 200 Gbit/s for 8 chips.
_NETWORK = 'of its network, 200 Gbit/s a host of 4 chips'
CHIPS = {chip.name: chip for chip in (
    Chip('v4', 'v4', 2, 275e12, int(30.5 * _GIB), 1.228e12, 45e9, 3, 6.25e9,
         1.05e9, assumed=f'a share {_NETWORK}'),
    Chip('v5e', 'v5e', 1, 197e12, int(15.75 * _GIB), 0.819e12, 45e9, 2, 3.125e9,
         1.5e9),
    Chip('v5p', 'v5p', 1, 459e12, int(95.74 * _GIB), 2.765e12, 90e9, 3,
         6.25e9, 1.75e9, num_cores=2, assumed=f'a share {_NETWORK}'),
    Chip('v6e', 'v6e', 1, 918e12, int(31.25 * _GIB), 1.638e12, 90e9, 2,
         12.5e9, 1.75e9, assumed='a clock of 1.75 GHz'),
    Chip('tpu7x', 'tpu7x', 2, 2307e12, int(189.5 * _GIB), 7.38e12, 100e9, 3,
         12.5e9, 2.2e9, assumed='a clock of 2.2 GHz, 400 Gbit/s a host of 4'),
)}
# Names that people use for the same chip.
_ALIASES = {'v7x': 'tpu7x', 'v5litepod': 'v5e', 'v5lite': 'v5e'}
# libtpu else asks the metadata server of a TPU machine, for a minute, and
# takes a lock that only one process can have.
_ENVIRONMENT = {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_ACCELERATOR_TYPE': 'v5p-8',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'TPU_WORKER_ID': '0',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


@dataclasses.dataclass(frozen=True)
class Slice:
  """An absent slice, or several of one shape.

  Attributes:
    name: Such as 'v5p:4x4x4' or '2*v5p:4x4x4'.
    chip: Its chips.
    shape: Chips along each axis of a slice.
    devices: Its JAX devices, to make a mesh of.
    num_slices: Number of slices.
  """
  name: str
  chip: Chip
  shape: tuple[int, ...]
  devices: tuple[jax.Device, ...]
  num_slices: int = 1

  @property
  def num_chips(self) -> int:
    """Chips, which are fewer than devices on v4 and tpu7x."""
    return self.num_slices * self.chips_of_slice

  @property
  def chips_of_slice(self) -> int:
    """Chips of one slice."""
    return math.prod(self.shape)


def parse(name: str) -> tuple[int, Chip, tuple[int, ...]]:
  """Splits '2*v5p:4x4x4' into the slices, the chip and a slice's shape.

  Raises:
    UserError: On anything else.
  """
  match = re.fullmatch(r'(?:([1-9]\d{0,3})\*)?(.*)', name, re.DOTALL)
  assert match is not None
  kind, _, grid = match[2].partition(':')
  if match[1] and gpu_topology.is_gpus(match[2]):
    _, hosts, size = gpu_topology.parse(match[2])
    raise errors.UserError(
        f'--topology {name}: slices are of TPUs; GPUs of several hosts are '
        f'{kind}:{int(match[1]) * hosts}x{size}')
  chip = CHIPS.get(_ALIASES.get(kind, kind))
  if chip is None or not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)*', grid):
    raise errors.UserError(
        f'--topology {name}: give CHIP:SHAPE such as v5p:4x4x4 or v6e:8x8, '
        f'2*CHIP:SHAPE for two slices, with a chip of {", ".join(CHIPS)}; or '
        'GPUs, such as h100:8; or gpu:N')
  shape = tuple(int(size) for size in grid.split('x'))
  if len(shape) != chip.torus_axes:
    raise errors.UserError(
        f'--topology {name}: {chip.name} slices have {chip.torus_axes} axes, '
        f'such as {chip.name}:{"x".join(["4"] * chip.torus_axes)}')
  if math.prod(shape) > 1 and any(size % 2 for size in shape[:2]):
    even = [size + size % 2 for size in shape[:2]]
    nearest = 'x'.join(map(str, (*even, *shape[2:])))
    raise errors.UserError(
        f'--topology {name}: a host has 2x2 chips, of which {kind} slices are '
        f'made, so that the first two sides are even; give {kind}:{nearest}, '
        f'or {kind}:{"x".join("1" * len(shape))} for one chip')
  return int(match[1] or 1), chip, shape


def get_slice(name: str) -> Slice:
  """Describes an absent TPU slice.

  Raises:
    UserError: If there is no such slice, or libtpu is not installed.
  """
  num_slices, chip, shape = parse(name)
  if importlib.util.find_spec('libtpu') is None:
    raise errors.UserError(
        f'--topology {name} needs libtpu, which compiles for absent TPUs; '
        f'install it by {extras.command("tpu_plan")}')
  full = f'{chip.library_name}:{"x".join(map(str, shape))}'
  several: dict[str, Any] = (
      dict(num_slices=num_slices) if num_slices > 1 else {})
  if math.prod(shape) == 1:  # libtpu takes a host for 2 x 2 chips else.
    several['chips_per_host_bounds'] = (1, 1, 1)
  try:
    with _environment():
      devices = topologies.get_topology_desc(
          full, platform='tpu', **several).devices
  except Exception as e:
    raise errors.UserError(f'--topology {name} is no slice that can be had: '
                           f'{" ".join(str(e).split())}') from e
  described: list[Any] = list(devices)  # Devices of other platforms lack them.
  # One slice alone does not number its devices' slices.
  chips = {(getattr(device, 'slice_index', 0), *device.coords)
           for device in described}
  if len(chips) != num_slices * math.prod(shape) or (
      len(devices) != len(chips) * chip.num_devices):
    raise RuntimeError(f'{full} has {len(devices)} devices on {len(chips)} '
                       f'chips; {chip} was expected.')
  one = f'{chip.name}:{"x".join(map(str, shape))}'
  return Slice(one if num_slices == 1 else f'{num_slices}*{one}', chip, shape,
               tuple(devices), num_slices)


@contextlib.contextmanager
def _environment():
  """libtpu reads its settings from the environment, once, when it loads."""
  before = {name: os.environ.get(name) for name in _ENVIRONMENT}
  os.environ.update(_ENVIRONMENT)
  try:
    yield
  finally:
    for name, value in before.items():
      if value is None:
        os.environ.pop(name, None)
      else:
        os.environ[name] = value
