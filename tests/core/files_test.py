"""A failed write leaves what was there, and nothing beside it."""
import hashlib
import json
import os
import pathlib
import pty
import stat
import subprocess
import sys
import tempfile
import threading

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.core import errors
from walt_jax.core import files


class FilesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.path = self.folder / 'a.txt'

  def test_write_replaces_the_whole_file(self):
    files.write_text(self.path, 'a long first text')
    files.write_text(self.path, 'née')
    self.assertEqual(self.path.read_bytes(), 'née'.encode())
    self.assertEqual(os.listdir(self.folder), ['a.txt'])

  def test_failed_write_leaves_the_old_file_and_no_rest(self):
    self.path.write_text('old')
    with self.assertRaisesRegex(OSError, 'disk full'):
      with files.replaced_file(self.path) as partial:
        partial.write_text('half of the n')
        self.assertEqual(self.path.read_text(), 'old')
        raise OSError('disk full')
    self.assertEqual(self.path.read_text(), 'old')
    self.assertEqual(os.listdir(self.folder), ['a.txt'])

  def test_failed_first_write_leaves_nothing(self):
    with self.assertRaises(ZeroDivisionError):
      with files.replaced_file(self.path) as partial:
        partial.write_text('half')
        raise ZeroDivisionError
    self.assertEmpty(os.listdir(self.folder))

  def test_values_that_are_not_json_write_nothing(self):
    self.path.write_text('{}')
    with self.assertRaises(TypeError):
      files.write_json(self.path, {'a': object()})
    self.assertEqual(self.path.read_text(), '{}')

  def test_umask_decides_who_may_read(self):
    old = os.umask(0o027)
    self.addCleanup(os.umask, old)
    files.write_bytes(self.path, b'')
    self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)

  def test_links_stay_links(self):
    link = self.folder / 'link'
    link.symlink_to(self.path)
    files.write_text(link, 'through')
    self.assertTrue(link.is_symlink())
    self.assertEqual(self.path.read_text(), 'through')

  def test_pipes_are_written_to(self):
    pipe = self.folder / 'pipe'
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    files.write_text(pipe, 'down the pipe')
    reader.join()
    self.assertEqual(found, ['down the pipe'])

  def test_devices_are_written_through(self):
    one_end, other_end = pty.openpty()
    self.addCleanup(os.close, one_end)
    self.addCleanup(os.close, other_end)
    device = os.ttyname(other_end)
    files.write_text(device, 'text')
    with files.replaced_file(device) as partial:
      partial.write_text(' and more')
    self.assertEqual(os.read(one_end, 100), b'text and more')
    self.assertTrue(stat.S_ISCHR(os.stat(device).st_mode))

  def test_standard_output_that_is_a_file_keeps_what_was_printed(self):
    code = ('from walt_jax.core import files; print("before"); '
            'files.write_text("/dev/stdout", "inside\\n"); print("after")')
    with open(self.path, 'wb') as out:
      subprocess.run([sys.executable, '-c', code], stdout=out, check=True)
    self.assertEqual(self.path.read_text(), 'before\ninside\nafter\n')

  def test_concurrent_writers_leave_one_whole_text(self):
    texts = [letter * 100_000 for letter in 'abcd']
    threads = [threading.Thread(target=files.write_text, args=(self.path, t))
               for t in texts for _ in range(5)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    self.assertIn(self.path.read_text(), texts)
    self.assertEqual(os.listdir(self.folder), ['a.txt'])

  def test_what_killed_writers_left_is_removed(self):
    self.path.write_text('whole')
    writer = files.replaced_file(self.path)
    writer.__enter__().write_text('half')
    self.assertLen(os.listdir(self.folder), 2)
    files.remove_partial_files(self.folder)
    self.assertEqual(os.listdir(self.folder), ['a.txt'])

  @parameterized.parameters(
      [[1, 2.5, None, True]], [{'é': '東'}], [b'\xff.mp4'.decode(
          errors='surrogateescape')], ['a \\udcff of letters'])
  def test_json_reads_back(self, value):
    files.write_json(self.path, value)
    self.assertEqual(files.read_json(self.path), value)
    self.assertEqual(json.loads(self.path.read_bytes()), value)

  @parameterized.parameters(b'{"a": ', b'\xff\xfe')
  def test_damaged_json_is_named(self, data):
    self.path.write_bytes(data)
    with self.assertRaisesRegex(errors.UserError, 'a.txt'):
      files.read_json(self.path)

  def test_missing_json_is_named(self):
    with self.assertRaisesRegex(errors.UserError, 'no such file.*a.txt'):
      files.read_json(self.path)

  def test_folder_is_replaced_whole(self):
    target = self.folder / 'export'
    for names in (('a', 'b'), ('c',)):
      with files.replaced_folder(target) as partial:
        self.assertEmpty(os.listdir(partial))
        for name in names:
          (partial / name).write_text(name)
      self.assertCountEqual(os.listdir(target), names)
    self.assertEqual(os.listdir(self.folder), ['export'])

  def test_failed_folder_leaves_the_old_one_and_no_rest(self):
    target = self.folder / 'export'
    with files.replaced_folder(target) as partial:
      (partial / 'a').write_text('old')
    with self.assertRaises(ZeroDivisionError):
      with files.replaced_folder(target) as partial:
        (partial / 'a').write_text('half')
        raise ZeroDivisionError
    self.assertEqual((target / 'a').read_text(), 'old')
    self.assertEqual(os.listdir(self.folder), ['export'])

  def test_folder_of_a_run_killed_while_replacing_it_comes_back(self):
    target = self.folder / 'export'
    old = self.folder / '.export.old'
    old.mkdir()
    (old / 'a').write_text('old')
    with self.assertRaises(ZeroDivisionError):
      with files.replaced_folder(target):
        raise ZeroDivisionError
    self.assertEqual((target / 'a').read_text(), 'old')

  def test_hashes(self):
    self.path.write_bytes(b'abc')
    self.assertEqual(files.file_sha256(self.path),
                     hashlib.sha256(b'abc').hexdigest())
    self.assertEqual(files.json_sha256({'a': 1, 'b': 2}),
                     files.json_sha256({'b': 2, 'a': 1}))


if __name__ == '__main__':
  absltest.main()
