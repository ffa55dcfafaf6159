"""Host memory: its peak, what is free, and its reuse from step to step.

glibc returns large freed blocks to the kernel at once. XLA's CPU backend
allocates and frees its buffers in every step, so that each step waits for the
kernel to clear thousands of pages anew. Without this, 18% of the quickstart's
processor time is the kernel's.
"""
import ctypes
import glob
import os
import pathlib
import resource
import sys

# <malloc.h>: option, value, and the variable by which a user decides.
_OPTIONS = (
    (-1, 2**31 - 1, 'MALLOC_TRIM_THRESHOLD_'),  # M_TRIM_THRESHOLD.
    (-2, 128 * 2**20, 'MALLOC_TOP_PAD_'),  # M_TOP_PAD.
    (-4, 0, 'MALLOC_MMAP_MAX_'),  # M_MMAP_MAX: no block has a map of its own.
    (-8, 1, 'MALLOC_ARENA_MAX'),  # M_ARENA_MAX: only the first keeps it all.
)
_ACCELERATORS = ('/dev/nvidia[0-9]*', '/dev/kfd', '/dev/accel*',
                 '/dev/vfio/[0-9]*')
# Of Linux: memory that programs may still take, and a container's own limit.
_MEMINFO = pathlib.Path('/proc/meminfo')
_CGROUP = pathlib.Path('/sys/fs/cgroup')


def keep_freed() -> None:
  """Makes malloc keep what is freed, if this machine computes on its CPU.

  Call it before other threads start: each of them would get a heap of its
  own. Does nothing where an accelerator is seen, whose hosts want the
  opposite, or where malloc is not glibc's (macOS, musl).
  """
  if (os.environ.get('JAX_PLATFORMS') != 'cpu'
      and any(glob.glob(pattern) for pattern in _ACCELERATORS)):
    return
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (OSError, AttributeError):
    return
  for option, value, variable in _OPTIONS:
    if variable not in os.environ:
      mallopt(option, value)


def peak_bytes() -> int:
  """Returns the most memory that this process has held so far, in bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  # macOS counts in bytes, Linux in KiB.
  return peak if sys.platform == 'darwin' else 1024 * peak


def available_bytes() -> int:
  """Returns the memory that this process may still take, in bytes.

  What the kernel says is available, or less where a container has a limit;
  where no kernel says so, half of the machine's memory.
  """
  try:
    lines = dict(line.split(':') for line in
                 _MEMINFO.read_text().splitlines())
    free = 1024 * int(lines['MemAvailable'].split()[0])
  except (OSError, KeyError, ValueError):
    free = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
  try:
    limit = int((_CGROUP / 'memory.max').read_text())
    used = int((_CGROUP / 'memory.current').read_text())
    # Files that the kernel keeps until somebody needs the memory.
    stat = dict(line.split() for line in
                (_CGROUP / 'memory.stat').read_text().splitlines())
    used -= int(stat['inactive_file'])
  except (OSError, KeyError, ValueError):  # There is no limit that it knows.
    return free
  return min(free, max(limit - used, 0))
