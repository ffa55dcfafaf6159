"""One writer of a folder: who is replaced, who is waited for, who is refused.
"""
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from tests import buckets
from walt_jax.core import errors
from walt_jax.core import lease
from walt_jax.core import paths


class LeaseTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.folder = self.root / 'runs' / 'a' / 'lease'
    self.said = []
    for name, seconds in dict(RENEW_SECONDS=.1, SILENT_SECONDS=.6,
                              GRACE_SECONDS=.5, _LOOK_SECONDS=.02).items():
      self.enterContext(mock.patch.object(lease, name, seconds))

  def take(self, folder=None):
    taken = lease.take(folder or self.folder, 'runs/a', self.said.append)
    self.addCleanup(taken.release)
    return taken

  def assert_taken_over(self, taken):
    deadline = time.monotonic() + 5
    with self.assertRaisesRegex(errors.UserError, 'taken over'):
      while time.monotonic() < deadline:
        taken.check()
        time.sleep(.02)

  def left_by(self, folder=None, **changed) -> pathlib.Path:
    """A lease as another holder left it."""
    holder = dataclasses.replace(lease.Holder.this(), **changed)
    file = paths.path(folder or self.folder) / '3.json'
    paths.make_folder(file.parent)
    file.write_text(json.dumps(dataclasses.asdict(holder)))
    return file

  def holder(self, folder=None) -> dict:
    found = lease._newest(paths.path(folder or self.folder))
    return dataclasses.asdict(found.holder)

  def test_it_names_its_holder_is_renewed_and_leaves_nothing(self):
    taken = self.take()
    self.assertEqual(self.holder()['pid'], os.getpid())
    deadline = time.monotonic() + 5
    while self.holder()['renewed'] < 2:
      self.assertLess(time.monotonic(), deadline)
      time.sleep(.02)
    taken.check(now=True)
    taken.release()
    self.assertEqual(list(self.root.iterdir()), [])
    self.assertEqual(self.said, [])

  def test_folders_that_were_there_stay(self):
    self.folder.parent.mkdir(parents=True)
    self.take().release()
    self.assertEqual(list(self.folder.parent.iterdir()), [])

  def test_who_is_alive_here_is_not_replaced(self):
    self.take()
    with self.assertRaisesRegex(
        errors.UserError, f'in use by process {os.getpid()} .*alive.*kill '):
      self.take()
    self.assertLen(self.said, 1)

  def test_who_ends_meanwhile_is_waited_for(self):
    taken = self.take()
    threading.Timer(.2, taken.release).start()
    self.take()
    self.assertLen(self.said, 1)

  def test_a_killed_process_here_is_replaced_at_once(self):
    process = subprocess.Popen([sys.executable, '-c', (
        'import sys, time; from walt_jax.core import lease; '
        'lease.take(sys.argv[1], "", print); print("taken", flush=True); '
        'time.sleep(60)'), str(self.folder)], stdout=subprocess.PIPE)
    self.addCleanup(process.stdout.close)
    self.assertEqual(process.stdout.readline(), b'taken\n')
    process.kill()
    # Not waited for: it stays as a zombie, which is gone all the same.
    began = time.monotonic()
    self.take()
    self.assertLess(time.monotonic() - began, .5)
    self.assertEqual(self.holder()['pid'], os.getpid())
    process.wait()

  def test_another_process_of_the_same_number_is_not_the_holder(self):
    self.left_by(began=1)
    self.take()
    self.assertEqual(self.said, [])

  @parameterized.parameters(dict(host='elsewhere'), dict(boot='earlier'))
  def test_who_is_silent_elsewhere_is_replaced_after_a_while(self, **where):
    self.left_by(**where)
    began = time.monotonic()
    self.take()
    self.assertGreater(time.monotonic() - began, lease.SILENT_SECONDS)
    (line,) = self.said
    self.assertIn('for a sign of it', line)

  def test_who_renews_elsewhere_is_alive(self):
    file = self.left_by(host='elsewhere')
    text = file.read_text()
    timer = threading.Timer(.2, lambda: file.write_text(text.replace(
        '"renewed": 0', '"renewed": 1')))
    timer.start()
    with self.assertRaisesRegex(errors.UserError, 'elsewhere, which is alive'):
      self.take()

  def test_what_cannot_be_read_is_waited_for_too(self):
    for text in ('{"run": ', '[' * 100_000):
      with self.subTest(text=text[:9]):
        self.left_by().write_text(text)
        self.said.clear()
        self.take().release()
        self.assertLen(self.said, 1)

  def test_one_of_many_newcomers_takes_it(self):
    self.left_by(began=1)
    taken, refused = [], []

    def come():
      try:
        taken.append(lease.take(self.folder, 'runs/a', lambda line: None))
      except errors.UserError:
        refused.append(1)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    self.assertEqual((len(taken), len(refused)), (1, 7))
    taken[0].check(now=True)
    taken[0].release()

  def test_a_holder_that_was_replaced_ends(self):
    taken = self.take()
    self.left_by(run='b', pid=7, host='elsewhere')
    with self.assertRaisesRegex(errors.UserError, 'taken over by process 7'):
      taken.check(now=True)
    taken.release()
    self.assertEqual(self.holder()['run'], 'b')

  def test_a_holder_that_was_replaced_notices_by_itself(self):
    taken = self.take()
    for file in self.folder.iterdir():
      file.unlink()
    self.assert_taken_over(taken)


class BucketTest(LeaseTest):
  """The same by conditional writes."""

  def setUp(self):
    super().setUp()
    self.folder = f'{buckets.folder()}/lease'

  def test_folders_that_were_there_stay(self):
    self.skipTest('a bucket has no folders')

  def test_a_killed_process_here_is_replaced_at_once(self):
    self.skipTest('the emulator is of this process')

  def test_it_names_its_holder_is_renewed_and_leaves_nothing(self):
    taken = self.take()
    deadline = time.monotonic() + 5
    while self.holder()['renewed'] < 2:
      self.assertLess(time.monotonic(), deadline)
      time.sleep(.02)
    taken.release()
    self.assertEqual(buckets.names(self.folder), [])

  def test_a_holder_that_was_replaced_notices_by_itself(self):
    taken = self.take()
    for file in list(paths.files_below(paths.path(self.folder))):
      file.unlink()
    self.assert_taken_over(taken)


if __name__ == '__main__':
  absltest.main()
