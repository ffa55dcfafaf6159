"""Workers end with the process that they work for, however that ends."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# Two of Grain's, as in training, with a batch that takes for ever.
_GRAIN = '''
import sys, time, unittest.mock
import grain
from absl import flags
from walt_jax.core import interrupts, workers
from walt_jax.commands import cli

def wait(number):
  if number > 3:
    time.sleep(100)
  return number

def work():
  flags.FLAGS.mark_as_parsed()
  dataset = grain.MapDataset.range(0, 100).map(wait).to_iter_dataset()
  dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=2),
                                worker_init_fn=workers.begin)
  found = workers.deaf(iter(dataset))
  next(found)  # The other worker may still import.
  print('begun', flush=True)
  with workers.heeded(1.0):
    for _ in found: pass

if __name__ == '__main__':
  sys.exit(interrupts.own_process(lambda watch: cli.answered(work, watch)))
'''


def in_session(session):
  """Processes of a session, but its leader and Python's own tracker."""
  found = []
  for folder in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      fields = (folder / 'stat').read_text().rpartition(')')[2].split()
      line = (folder / 'cmdline').read_text()
    except OSError:
      continue
    if (int(fields[3]) == session and int(folder.name) != session
        and 'resource_tracker' not in line and fields[0] != 'Z'):
      found.append(int(folder.name))
  return found


class WorkersTest(parameterized.TestCase):

  def start(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (folder / 'program.py').write_text(_GRAIN)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    self.addCleanup(signal.signal, signal.SIGINT, before)
    process = subprocess.Popen(
        [sys.executable, str(folder / 'program.py')], text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(
            [str(_ROOT), *sys.path])})
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    self.assertEqual(process.stdout.readline(), 'begun\n')
    self.assertGreaterEqual(len(in_session(process.pid)), 2)
    return process

  def assert_none_is_left(self, session):
    deadline = time.monotonic() + 10
    while left := in_session(session):
      self.assertLess(time.monotonic(), deadline, left)
      time.sleep(0.05)

  def test_they_end_with_a_parent_that_is_killed(self):
    process = self.start()
    process.kill()
    self.assert_none_is_left(process.pid)

  def test_ctrl_c_is_one_line(self):
    process = self.start()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    self.assertEqual((process.returncode, err), (130, 'walt: interrupted\n'))
    self.assert_none_is_left(process.pid)

  def test_one_that_was_stopped_is_named_and_ended(self):
    process = self.start()
    worker = in_session(process.pid)[0]
    os.kill(worker, signal.SIGSTOP)
    _, err = process.communicate(timeout=40)
    self.assertIn(f'worker process {worker} was stopped; it is ended', err)
    self.assertEqual(process.returncode, 1)
    self.assert_none_is_left(process.pid)


if __name__ == '__main__':
  absltest.main()
