"""How much memory devices have to spare."""
from collections.abc import Sequence

import jax

from walt_jax.core import host_memory

# Programs are fitted into this share: estimates are no promises, and memory
# that is free in sum need not be free in one piece.
_SHARE = 0.9


def free_bytes(devices: Sequence[jax.Device]) -> int:
  """Bytes that a program may take on each of some devices of this process.

  The least that any of them says it has free; devices that do not count
  theirs, as CPUs, share what their host has.
  """
  free = []
  for device in devices:
    stats = device.memory_stats() or {}
    if 'bytes_limit' not in stats:
      return usable(host_memory.available_bytes()) // len(devices)
    free.append(stats['bytes_limit'] - stats.get('bytes_in_use', 0))
  return usable(min(free))


def usable(free: int) -> int:
  """The part of free memory that programs are fitted into, in bytes."""
  return int(_SHARE * free)
