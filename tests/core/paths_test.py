"""Paths, local and in a bucket, and what reads and writes them."""
import hashlib
import os
import pathlib
import pickle
import tempfile
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from tests import buckets
from walt_jax.core import errors
from walt_jax.core import fetched
from walt_jax.core import files
from walt_jax.core import mirror
from walt_jax.core import paths
from walt_jax.core import run_files


class FormsTest(parameterized.TestCase):

  @parameterized.parameters(
      'runs/a', '/tmp/x', './gs:/x', 'data:heldout:64x64', 'tfds:ucf101',
      'a b', 'x:y', '', '-', 'C:x', 'gs:bucket//x:/')
  def test_local_paths_are_as_they_were(self, text):
    paths.check(text)
    self.assertFalse(paths.is_remote(text))
    self.assertEqual(paths.path(text), pathlib.Path(text))

  @parameterized.parameters(
      'gs:/bucket/x', 'GS://bucket/x', 'gcs://bucket/x',
      's3://bucket/x', 'hdfs://host/x', 'http://host/x', 'file:///tmp/x',
      'gs://', 'gs:///x', 'gs://ab/x', 'gs://Bucket/x', 'gs://buc ket/x',
      'gs://bucket/../x', 'gs://bucket/a/..', 'gs://bucket/a*', 'gs://bucket/?',
      'gs://bucket/a[0]', 'gs://bucket/a#1', 'gs://bucket/a\0', 'C:/x')
  def test_others_are_refused_in_one_line(self, text):
    with self.assertRaises(errors.UserError) as caught:
      paths.path(text)
    self.assertIn(repr(text), str(caught.exception))
    self.assertNotIn('\n', str(caught.exception))

  def test_what_opens_buckets_is_named_where_it_is_absent(self):
    real = __import__

    def absent(name, *args, **kwargs):
      if name.partition('.')[0] == 'gcsfs':
        raise ModuleNotFoundError(f'No module named {name!r}')
      return real(name, *args, **kwargs)

    paths._libraries.cache_clear()
    with mock.patch('builtins.__import__', absent):
      with self.assertRaisesRegex(errors.UserError, r"'\.\[gcs\]'"):
        paths.path('gs://bucket/x')


class BucketTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = buckets.folder()

  def test_a_path_is_the_same_after_a_journey(self):
    found = paths.path(self.folder) / 'a' / 'b.txt'
    self.assertEqual(str(found), f'{self.folder}/a/b.txt')
    self.assertEqual(os.fspath(found.parent), f'{self.folder}/a')
    self.assertEqual(str(pickle.loads(pickle.dumps(found))), str(found))
    self.assertEqual(paths.absolute(found), found)
    self.assertEqual(paths.path(found), found)

  def test_files_are_written_whole_and_read(self):
    root = paths.path(self.folder)
    files.write_json(root / 'a/b.json', {'x': 1})
    self.assertEqual(files.read_json(root / 'a/b.json'), {'x': 1})
    with self.assertRaises(ValueError), files.replaced_file(
        root / 'c.txt') as partial:
      partial.write_text('half')
      raise ValueError
    with files.replaced_file(root / 'd.txt') as partial:
      partial.write_text('whole')
    self.assertEqual(buckets.names(self.folder), ['a/b.json', 'd.txt'])
    self.assertEqual(paths.size(root / 'd.txt'), 5)
    self.assertEqual(files.file_sha256(root / 'd.txt'),
                     hashlib.sha256(b'whole').hexdigest())
    with files.opened(root / 'd.txt') as file:
      self.assertEqual(file.read(), b'whole')
    with self.assertRaisesRegex(errors.UserError, 'no such file'):
      files.read_json(root / 'none.json')

  def test_a_folder_is_replaced_file_by_file(self):
    root = paths.path(self.folder) / 'export'
    for names in (('model.bin', 'config.json', 'old/x'), (
        'model.bin', 'config.json')):
      with files.replaced_folder(root) as partial:
        for name in names:
          (partial / name).parent.mkdir(exist_ok=True)
          (partial / name).write_text(name)
      self.assertCountEqual(buckets.names(str(root)), names)
    with self.assertRaises(ValueError), files.replaced_folder(root):
      raise ValueError
    self.assertLen(buckets.names(str(root)), 2)

  def test_objects_move_and_folders_go(self):
    root = paths.path(self.folder)
    files.write_text(root / 'a/x', '1')
    files.write_text(root / 'ab', '2')
    paths.move(root / 'a/x', root / 'b/y')
    self.assertEqual(buckets.names(self.folder), ['ab', 'b/y'])
    paths.remove_tree(root / 'b')
    paths.remove_tree(root / 'none')
    self.assertEqual(buckets.names(self.folder), ['ab'])

  def test_a_copy_is_made_once_and_bounded(self):
    root = paths.path(self.folder)
    files.write_text(root / 'a/x', '1')
    copy = fetched.local(root / 'a')
    self.assertEqual((copy / 'x').read_text(), '1')
    self.assertEqual(fetched.local(f'{self.folder}/a'), copy)
    with self.assertRaisesRegex(errors.UserError, 'no such file'):
      fetched.local(root / 'none')
    files.write_text(root / 'large', '123')
    with mock.patch.object(fetched, 'LEAST_FREE', 10**18):
      with self.assertRaisesRegex(errors.UserError, 'do not fit.*TMPDIR'):
        fetched.local(root / 'large')

  def test_what_is_appended_to_is_copied_whole(self):
    now = [0.0]
    target = f'{self.folder}/run'
    metrics = f'{target}/{run_files.METRICS}'
    one = mirror.Mirror(target, clock=lambda: now[0])
    line = '{"step": 1, "loss": 2.0}\n'
    (one.folder / run_files.METRICS).write_text(line)
    one.publish_later()  # Not yet a minute.
    self.assertEqual(buckets.names(target), [])
    one.publish()
    self.assertEqual(paths.path(metrics).read_text(), line)
    self.assertLen(run_files.read_metrics(target).lines, 1)
    with open(one.folder / run_files.METRICS, 'a') as file:
      file.write(line)
    now[0] = 2 * mirror.SECONDS
    one.publish_later()
    one.close()
    self.assertFalse(one.folder.exists())
    self.assertEqual(paths.path(metrics).read_text(), 2 * line)
    other = mirror.Mirror(target)
    other.fetch(run_files.METRICS)
    other.fetch('none')
    (other.folder / run_files.METRICS).unlink()
    other.close()
    self.assertEqual(buckets.names(target), [])

  def test_a_mirror_of_a_local_folder_is_that_folder(self):
    parent = tempfile.TemporaryDirectory()
    self.addCleanup(parent.cleanup)
    folder = pathlib.Path(parent.name) / 'new'
    one = mirror.Mirror(folder)
    self.assertEqual(one.folder, folder)
    (folder / 'x').write_text('1')
    one.fetch('x')
    one.publish_later()
    one.close()
    self.assertEqual((folder / 'x').read_text(), '1')

  @parameterized.parameters(False, True)
  def test_a_bucket_that_answers_is_reached(self, write):
    paths.reach(self.folder, write=write)
    self.assertEqual(buckets.names(self.folder), [])

  @parameterized.parameters(False, True)
  def test_a_bucket_that_is_not_there_is_one_line(self, write):
    with self.assertRaisesRegex(errors.UserError, 'no bucket') as caught:
      paths.reach('gs://walt-no-such-bucket/x', write=write)
    self.assertNotIn('\n', str(caught.exception))

  def test_a_bucket_that_does_not_answer_is_one_line_in_time(self):
    began = time.monotonic()
    with mock.patch.object(paths, '_ask', lambda *_: time.sleep(30)):
      with self.assertRaisesRegex(errors.UserError, 'no answer within 0.1 s'):
        paths.reach(self.folder, write=False, seconds=0.1)
    self.assertLess(time.monotonic() - began, 5)
    self.assertLess(paths.REACH_SECONDS, 60)


if __name__ == '__main__':
  absltest.main()
