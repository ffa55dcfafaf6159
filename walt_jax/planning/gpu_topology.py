"""GPUs that are not there, and what their chips can do.

XLA's CUDA plugin compiles for a described chip on any CPU when the wheels of
the extra `gpu_plan` are installed: no driver is asked for, and nothing is run.
"""
from collections.abc import Iterator
import contextlib
import dataclasses
import importlib.util
import logging
import math
import os
import pathlib
import re
from typing import Any

import jax
from jax.experimental import topologies

from walt_jax.core import errors
from walt_jax.core import extras

_GIB = 1 << 30
SPECS = pathlib.Path(__file__).parent / 'gpu_specs'
# Without autotuning Triton fails on products of odd shapes: all go to cuBLAS.
_WITHOUT_TUNING = dict(
    xla_gpu_autotune_level=0, xla_gpu_enable_triton_gemm=False)
_PLUGIN = 'jax_plugins.xla_cuda12'
_NO_CHECK = 'JAX_SKIP_CUDA_CONSTRAINTS_CHECK'
HOST_SIZE = 8  # GPUs of a host, joined by links of their own.


@dataclasses.dataclass(frozen=True)
class GpuChip:
  """What a ledger takes for granted of one GPU.

  Attributes:
    name: Name of the chip, as topologies write it, and of its description in
      `gpu_specs/`.
    peak_flops: Dense bfloat16 operations/s, as published.
    reached_flops: The part of it that a large product reaches.
    hbm_bandwidth: Bytes/s that a stream through the memory reaches.
    hbm_bytes: What a program can have.
    exponentials: Exponentials/s of the special function units.
    kernel_flops: Operations/s granted to products in Pallas kernels.
    link_bandwidth: Bytes/s that a GPU sends to others of its host.
    network_bandwidth: Bytes/s that it sends to other hosts.
    source: Where the figures are from.
  """
  name: str
  peak_flops: float
  reached_flops: float
  hbm_bandwidth: float
  hbm_bytes: int
  exponentials: float
  kernel_flops: float
  link_bandwidth: float
  network_bandwidth: float
  source: str


# Measured on an H100 SXM: 798 of 989 TFLOP/s by an 8192^3 bfloat16 product,
# 2.9 of 3.35 TB/s by a stream; the stock Pallas attention kernel ran at 200
# TFLOP/s; JAX gets 72 of 79.1 GiB.
_REACHED_FLOPS, _REACHED_BANDWIDTH = 798 / 989, 2.9 / 3.35
_KERNEL_FLOPS, _MEMORY = 200 / 989, 72 / 79.1
_PUBLISHED = ('published, times the share that an H100 was measured to reach '
              'of its own')


def _published(name: str, flops: float, bandwidth: float, gib: float,
               units: int, clock: float, link: float, network: float
               ) -> GpuChip:
  """A chip that was not measured.

  Args:
    name: Name of the chip.
    flops: Dense bfloat16 operations/s.
    bandwidth: Bytes/s of the memory.
    gib: Size of the memory.
    units: Multiprocessors, each of 16 exponentials a cycle.
    clock: Their cycles/s under load.
    link: See `GpuChip`.
    network: See `GpuChip`.
  """
  return GpuChip(
      name, flops, flops * _REACHED_FLOPS, bandwidth * _REACHED_BANDWIDTH,
      int(gib * _MEMORY * _GIB), 16 * units * clock, flops * _KERNEL_FLOPS,
      link, network, _PUBLISHED)


# Links: NVLink in one direction, or PCIe 4.0 x16 at 25 GB/s of 32; network:
# 400 Gbit/s a GPU (A100: 200), of hosts without NVLink 100 Gbit/s a host.
CHIPS = {chip.name: chip for chip in (
    GpuChip('h100', 989e12, 798e12, 2.9e12, 72 * _GIB, 3.7e12, 200e12, 450e9,
            50e9, 'measured on an H100 SXM 80GB; links as published'),
    _published('h200', 989e12, 4.8e12, 141., 132, 1.755e9, 450e9, 50e9),
    _published('b200', 2250e12, 7.67e12, 178.4, 148, 1.835e9, 900e9, 50e9),
    _published('a100', 312e12, 2.039e12, 79.25, 108, 1.41e9, 300e9, 25e9),
    _published('l4', 121e12, .3e12, 21.96, 58, 2.04e9, 25e9, 1.56e9),
    _published('rtx4090', 165.2e12, 1.008e12, 23.99, 128, 2.52e9, 25e9,
               1.56e9),
)}


@dataclasses.dataclass(frozen=True)
class Gpus:
  """Absent GPUs.

  Attributes:
    name: Such as 'h100:8' or 'h100:4x8'.
    chip: Their chip.
    devices: Their JAX devices, to make a mesh of, host after host.
    compiler_options: Options that programs for them are compiled with.
    num_hosts: Hosts; the GPUs of one are joined by links of their own.
  """
  name: str
  chip: GpuChip
  devices: tuple[jax.Device, ...]
  compiler_options: dict[str, Any]
  num_hosts: int = 1

  @property
  def host_size(self) -> int:
    """GPUs of a host."""
    return self.num_chips // self.num_hosts

  @property
  def num_chips(self) -> int:
    """GPUs."""
    return len(self.devices)


def is_gpus(name: str) -> bool:
  """Whether a topology's name is one of GPUs that can be compiled for."""
  return name.partition(':')[0] in CHIPS


def parse(name: str) -> tuple[GpuChip, int, int]:
  """Splits 'h100:4x8' into the chip, the hosts and the GPUs of a host.

  'h100:8' is one host, 'h100:16' two of 8.

  Raises:
    UserError: On anything else.
  """
  kind, _, count = name.partition(':')
  match = re.fullmatch(r'(?:([1-9]\d{0,3})x)?([1-9]\d{0,4})', count)
  if kind in CHIPS and match:
    size = int(match[2])
    if match[1] and size <= HOST_SIZE:
      return CHIPS[kind], int(match[1]), size
    if not match[1] and size <= HOST_SIZE:
      return CHIPS[kind], 1, size
    if not match[1] and size % HOST_SIZE == 0:
      return CHIPS[kind], size // HOST_SIZE, HOST_SIZE
  raise errors.UserError(
      f'--topology {name}: give CHIP:N such as h100:8, or CHIP:HOSTSxN such as '
      f'h100:4x8, with a chip of {", ".join(CHIPS)} and at most {HOST_SIZE} '
      'GPUs a host')


def get_gpus(name: str) -> Gpus:
  """Describes absent GPUs.

  Raises:
    UserError: If the name is no topology, or the wheels are not installed.
  """
  chip, hosts, size = parse(name)
  options = _options(name)
  shape = (1, hosts, size)  # Slices, hosts, GPUs of a host.
  describe = lambda: topologies.get_topology_desc(
      '', platform='cuda', topology='x'.join(map(str, shape)),
      target_config=(SPECS / f'{chip.name}.txtpb').read_text()).devices
  with _without_libraries():
    try:
      devices = describe()
    except NotImplementedError as e:
      # JAX may have asked the plugin before, which then wanted CUDA's
      # libraries and was left out.
      try:
        plugin = importlib.import_module(_PLUGIN)
      except ModuleNotFoundError:
        raise _missing(name, 'jax-cuda12-pjrt') from e
      plugin.initialize()
      devices = describe()
  assert len(devices) == math.prod(shape), devices
  full = str(size) if hosts == 1 else f'{hosts}x{size}'
  return Gpus(f'{chip.name}:{full}', chip, tuple(devices), options, hosts)


def _options(name: str) -> dict[str, Any]:
  """Options to compile with where there is no chip to try kernels on."""
  try:
    found = importlib.util.find_spec('nvidia.cuda_nvcc')
  except ModuleNotFoundError:
    found = None
  if found is None or not found.submodule_search_locations:
    raise _missing(name, 'nvidia-cuda-nvcc-cu12')
  folder = next(iter(found.submodule_search_locations))
  return dict(_WITHOUT_TUNING, xla_gpu_cuda_data_dir=folder)


def _missing(name: str, wheel: str) -> errors.UserError:
  return errors.UserError(
      f'--topology {name} needs {wheel}, which compiles for absent GPUs; '
      f'install it by {extras.command("gpu_plan")}')


@contextlib.contextmanager
def _without_libraries() -> Iterator[None]:
  """Keeps the plugin from asking for the libraries that only runs need."""
  logger = logging.getLogger(_PLUGIN)
  level, before = logger.level, os.environ.get(_NO_CHECK)
  logger.setLevel(logging.ERROR)
  os.environ[_NO_CHECK] = '1'
  try:
    yield
  finally:
    logger.setLevel(level)
    if before is None:
      del os.environ[_NO_CHECK]
    else:
      os.environ[_NO_CHECK] = before
