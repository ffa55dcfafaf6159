"""Freed memory is kept on a machine that computes on its CPU; peaks count."""
import os
import platform
import subprocess
import sys
import unittest
from unittest import mock

from absl.testing import absltest
import numpy as np

from walt_jax.core import host_memory

# Ten times over, four blocks of 24 MiB are filled and freed on a second thread:
# more than one of the 64 MiB heaps that such a thread has for itself.
_PAGES = 10 * 4 * 24 * 256
_PROGRAM = """
import ctypes, resource, sys, threading
from walt_jax.core import host_memory
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


class OtherSystemsTest(absltest.TestCase):
  """What another C library or macOS lacks is done without."""

  def test_a_malloc_without_options_is_left_alone(self):
    class OtherLibrary:
      pass

    with mock.patch('ctypes.CDLL', lambda name: OtherLibrary()), \
        mock.patch.dict(os.environ, JAX_PLATFORMS='cpu'):
      host_memory.keep_freed()

  def test_no_c_library_at_all_is_no_error(self):
    with mock.patch('ctypes.CDLL', side_effect=OSError), \
        mock.patch.dict(os.environ, JAX_PLATFORMS='cpu'):
      host_memory.keep_freed()

  def test_a_peak_is_in_bytes_on_linux_and_on_macos(self):
    usage = mock.Mock(ru_maxrss=3 * 2**20)
    with mock.patch('resource.getrusage', return_value=usage):
      with mock.patch('sys.platform', 'linux'):
        self.assertEqual(host_memory.peak_bytes(), 3 * 2**30)
      with mock.patch('sys.platform', 'darwin'):
        self.assertEqual(host_memory.peak_bytes(), 3 * 2**20)

  def test_this_systems_peak_counts_an_array(self):
    array = np.ones(64 * 2**20, np.uint8)
    self.assertGreater(host_memory.peak_bytes(), array.nbytes)
    self.assertLess(host_memory.peak_bytes(), 2**40)


if __name__ == '__main__':
  absltest.main()
