"""What processes that test together share is made once."""
import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest

from tests.e2e import tiny

_PROGRAM = """
import sys, time
from tests.e2e import tiny
def make(folder):
  folder.mkdir()
  with open(sys.argv[1], 'a') as log:
    log.write('made')
  time.sleep(0.5)
  (folder / 'whole').touch()
print((tiny.shared('thing', make) / 'whole').exists())
"""


class SharedTest(absltest.TestCase):

  def test_one_process_makes_it_and_the_others_wait(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    log = folder / 'log'
    processes = [subprocess.Popen(
        [sys.executable, '-c', _PROGRAM, str(log)], cwd=tiny.ROOT,
        stdout=subprocess.PIPE, text=True,
        env=os.environ | {tiny.SCRATCH: str(folder)}) for _ in range(2)]
    for process in processes:
      self.assertEqual(process.communicate(timeout=300)[0], 'True\n')
    self.assertEqual(log.read_text(), 'made')


if __name__ == '__main__':
  absltest.main()
