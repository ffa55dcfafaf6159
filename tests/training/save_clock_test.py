"""Checkpoints that are due by the clock."""
from unittest import mock

from absl.testing import absltest
import jax

from walt_jax.parallel import distributed
from walt_jax.training import save_clock


class SaveClockTest(absltest.TestCase):

  def make(self, seconds):
    self.now = 0.0
    return save_clock.SaveClock(seconds, 5, clock=lambda: self.now)

  def test_due_after_so_many_seconds_since_the_last_save(self):
    found = self.make(10.0)
    due = []
    for step in range(8):
      self.now += 4.0
      due.append(found.due(step))
      if due[-1]:
        found.saved()
    self.assertEqual(due, [False, False, True] * 2 + [False] * 2)
    found = self.make(0.0)
    self.now = 1e9
    self.assertFalse(found.due(1))

  def test_of_several_processes_the_first_decides_at_logged_steps(self):
    said = []

    def first_says(name, value):
      said.append((name, value))
      return not value

    self.enterContext(mock.patch.object(jax, 'process_count', lambda: 2))
    self.enterContext(mock.patch.object(
        distributed, 'first_says', first_says))
    found = self.make(10.0)
    due = [found.due(step) for step in range(1, 11)]
    self.assertEqual(due, [step in (5, 10) for step in range(1, 11)])
    self.assertEqual(said, [('save 1', False), ('save 2', False)])


if __name__ == '__main__':
  absltest.main()
