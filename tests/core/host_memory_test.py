"""Freed memory is kept on a machine that computes on its CPU."""
import os
import platform
import subprocess
import sys
import unittest

from absl.testing import absltest

# Ten times over, four blocks of 24 MiB are filled and freed on a second thread:
# more than one of the 64 MiB heaps that such a thread has for itself.
_PAGES = 10 * 4 * 24 * 256
_PROGRAM = """
import ctypes, resource, sys, threading
from walt_jax import host_memory
if sys.argv[1] == 'keep':
  host_memory.keep_freed()
def touch():
  libc = ctypes.CDLL(None)
  libc.malloc.restype = ctypes.c_void_p
  size = 24 * 2**20
  for _ in range(10):
    blocks = [libc.malloc(ctypes.c_size_t(size)) for _ in range(4)]
    for block in blocks:
      ctypes.memset(block, 1, size)
    for block in blocks:
      libc.free(ctypes.c_void_p(block))
thread = threading.Thread(target=touch)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _page_faults(mode: str, **environment: str) -> int:
  done = subprocess.run(
      [sys.executable, '-c', _PROGRAM, mode], check=True, text=True,
      capture_output=True,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'} | environment)
  return int(done.stdout)


@unittest.skipUnless(platform.libc_ver()[0] == 'glibc', 'another malloc')
class KeepFreedTest(absltest.TestCase):

  def test_the_next_block_takes_the_pages_of_the_last(self):
    plain = _page_faults('plain')
    self.assertGreater(plain, 0.5 * _PAGES)
    self.assertLess(_page_faults('keep'), 0.2 * _PAGES)

  def test_the_users_own_setting_stands(self):
    faults = _page_faults(
        'keep', MALLOC_MMAP_MAX_='65536', MALLOC_MMAP_THRESHOLD_='65536')
    self.assertGreater(faults, 0.9 * _PAGES)


if __name__ == '__main__':
  absltest.main()
