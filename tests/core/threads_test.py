"""Mapping in threads: in order, bounded, and errors at their turn."""
import threading
import time

from absl.testing import absltest

from walt_jax.core import threads


class MapAheadTest(absltest.TestCase):

  def test_results_are_in_order_and_bounded(self):
    begun = []

    def work(number):
      begun.append(number)
      time.sleep(0.01 * (number % 3 == 0))  # Later ones end first.
      return number * number

    found = threads.map_ahead(work, range(40), threads=4, ahead=6)
    for number, result in enumerate(found):
      self.assertEqual(result, number * number)
      self.assertLessEqual(len(begun), number + 6)

  def test_threads_run_at_once(self):
    together = threading.Barrier(3, timeout=10)
    self.assertLen(list(threads.map_ahead(
        lambda _: together.wait(), range(6), threads=3, ahead=6)), 6)

  def test_the_first_error_in_order_is_raised_and_the_rest_dropped(self):
    begun = []

    def work(number):
      begun.append(number)
      if number == 3:
        time.sleep(0.05)  # The fifth fails before it.
      if number >= 3:
        raise ValueError(str(number))
      return number

    found = threads.map_ahead(work, range(1000), threads=2, ahead=8)
    self.assertEqual([next(found) for _ in range(3)], [0, 1, 2])
    with self.assertRaisesRegex(ValueError, '^3$'):
      next(found)
    self.assertLess(len(begun), 12)


if __name__ == '__main__':
  absltest.main()
