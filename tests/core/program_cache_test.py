import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest

from walt_jax.core import program_cache

_PROGRAM = """
import sys
from walt_jax.core import program_cache
if sys.argv[1] == 'late':
  import jax
print(program_cache.enable())
import jax
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
jax.jit(lambda x: x + 1)(2.0)
"""


def _run(when: str, home: str, **environment: str) -> str:
  left_out = ('JAX_COMPILATION_CACHE_DIR', 'JAX_ENABLE_COMPILATION_CACHE',
              'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS')
  inherited = {name: value for name, value in os.environ.items()
               if name not in left_out}
  return subprocess.run(
      [sys.executable, '-c', _PROGRAM, when], check=True, text=True,
      stdout=subprocess.PIPE, env=inherited | dict(
          XDG_CACHE_HOME=home, JAX_PLATFORMS='cpu') | environment).stdout


class ProgramCacheTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.home = self.enterContext(tempfile.TemporaryDirectory())

  def programs(self) -> int:
    return len([*pathlib.Path(self.home).rglob('jit_*')])

  def test_programs_are_kept_for_the_owner_alone(self):
    for when in ('early', 'late'):
      self.assertEqual(_run(when, f'{self.home}/{when}'), 'None\n')
      folder, = pathlib.Path(self.home, when).glob('walt_jax/programs/*')
      self.assertTrue([*folder.glob('jit_*')])
      self.assertEqual(folder.stat().st_mode & 0o777, 0o700)

  def test_a_user_turns_it_off(self):
    _run('early', self.home, JAX_ENABLE_COMPILATION_CACHE='false')
    self.assertEqual(self.programs(), 0)

  def test_where_nothing_can_be_written_a_line_says_so(self):
    file = pathlib.Path(self.home, 'file')
    file.write_text('')
    with mock.patch.dict(os.environ, XDG_CACHE_HOME=str(file), clear=True):
      line = program_cache.enable()
      self.assertNotIn('JAX_COMPILATION_CACHE_DIR', os.environ)
    self.assertRegex(line, rf'{file}/walt_jax/.* cannot be written; .*DIR\Z')

  def test_what_was_not_used_for_long_goes(self):
    folder = pathlib.Path(self.home)
    for age, name in enumerate(('new-cache', 'used-cache', 'old-cache',
                                'older-cache', 'another_file')):
      (folder / name).write_bytes(bytes(10))
      os.utime(folder / name, (10**9 - age, 10**9 - age))
    os.utime(folder / 'used-cache', (10**9 + 1, 0))  # Written long ago.
    program_cache.prune(folder, 25)
    self.assertCountEqual([file.name for file in folder.iterdir()],
                          ['new-cache', 'used-cache', 'another_file'])
    with mock.patch.object(program_cache, '_MAX_BYTES', 10), mock.patch.object(
        program_cache, 'default_folder', lambda: folder):
      for given, left in ({'JAX_COMPILATION_CACHE_MAX_SIZE': '1'}, 2), ({}, 1):
        with mock.patch.dict(os.environ, given, clear=True):
          self.assertIsNone(program_cache.enable())
        self.assertLen([*folder.glob('*-cache')], left)

  def test_a_number_of_devices_finds_its_own_programs(self):
    for count, kept in ((1, 1), (4, 2), (1, 2)):
      _run('early', self.home, XLA_FLAGS=(
          f'--xla_force_host_platform_device_count={count}'))
      self.assertEqual(self.programs(), kept)

  def test_folders_differ_by_processor(self):
    here = program_cache.default_folder()
    with mock.patch('platform.machine', lambda: 'other'):
      self.assertNotEqual(program_cache.default_folder().name, here.name)


if __name__ == '__main__':
  absltest.main()
