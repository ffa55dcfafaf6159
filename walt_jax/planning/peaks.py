"""The chips of a mesh that is there: how many, and what each can do."""
import jax
import numpy as np

from walt_jax.planning import gpu_topology
from walt_jax.planning import topology

# What JAX calls the kinds of chips, by the names of our tables. Chips of
# another form (H100 PCIe, H100 NVL) have other peaks, and none here.
_TPU_KINDS = {
    'TPU v4': 'v4', 'TPU v5': 'v5p', 'TPU v5p': 'v5p', 'TPU v5 lite': 'v5e',
    'TPU v5e': 'v5e', 'TPU v6 lite': 'v6e', 'TPU v6e': 'v6e',
    'TPU7x': 'tpu7x',
}
_GPU_KINDS = {
    'NVIDIA H100 80GB HBM3': 'h100', 'NVIDIA H200': 'h200',
    'NVIDIA B200': 'b200', 'NVIDIA A100-SXM4-40GB': 'a100',
    'NVIDIA A100-SXM4-80GB': 'a100', 'NVIDIA L4': 'l4',
    'NVIDIA GeForce RTX 4090': 'rtx4090',
}


def peak_flops(device: jax.Device) -> float | None:
  """Published dense bfloat16 FLOP/s of a device's chip.

  Returns:
    None for a CPU, and for a chip that the tables `topology.CHIPS` and
    `gpu_topology.CHIPS` lack.
  """
  kind = device.device_kind
  if kind in _TPU_KINDS:
    return topology.CHIPS[_TPU_KINDS[kind]].peak_flops
  if kind in _GPU_KINDS:
    return gpu_topology.CHIPS[_GPU_KINDS[kind]].peak_flops
  return None


def num_chips(mesh: jax.sharding.Mesh) -> int:
  """Chips of a mesh: two devices of a TPU may be cores of one."""
  devices = list(np.asarray(mesh.devices).flat)
  if devices[0].platform != 'tpu':
    return len(devices)
  return len({(getattr(device, 'slice_index', 0), *device.coords)
              for device in devices})
