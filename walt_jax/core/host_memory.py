"""Host memory: its peak, and on a CPU its reuse from step to step.

glibc returns large freed blocks to the kernel at once. XLA's CPU backend
allocates and frees its buffers in every step, so that each step waits for the
kernel to clear thousands of pages anew. Without this, 18% of the quickstart's
processor time is the kernel's.
"""
import ctypes
import glob
import os
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
