"""Freed memory is kept on a machine that computes on its CPU."""
import os
import platform
import subprocess
import sys
import unittest

from absl.testing import absltest

# Clears 200 blocks of 4 MiB, each freed before the next, on a second thread.
_PROGRAM = """
import ctypes, resource, sys, threading
from walt_jax import host_memory
if sys.argv[1] == 'keep':
  host_memory.keep_freed()
def touch():
  libc = ctypes.CDLL(None)
  libc.malloc.restype = ctypes.c_void_p
  for _ in range(200):
    block = libc.malloc(ctypes.c_size_t(2**22))
    ctypes.memset(block, 1, 2**22)
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
    # 200 blocks of 1024 pages.
    blocks = 200 * 1024
    plain = _page_faults('plain', MALLOC_MMAP_THRESHOLD_='65536')
    self.assertGreater(plain, blocks)
    self.assertLess(_page_faults('keep'), blocks // 10)

  def test_the_users_own_setting_stands(self):
    faults = _page_faults(
        'keep', MALLOC_MMAP_MAX_='65536', MALLOC_MMAP_THRESHOLD_='65536')
    self.assertGreater(faults, 200 * 1024)


if __name__ == '__main__':
  absltest.main()
