"""Every piece of work is done once, in batches that one process would make."""
import threading
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.parallel import multihost
from walt_jax.parallel import shares as shares_lib


class _Hosts:
  """Threads in the places of processes, which gather as processes do."""

  def __init__(self, count: int):
    self._barrier = threading.Barrier(count)
    self._values: list = [None] * count
    self.local = threading.local()

  def gather(self, value):
    self._values[self.local.process] = np.asarray(value)
    self._barrier.wait(10)
    shapes = {(each.shape, each.dtype) for each in self._values}
    assert len(shapes) == 1, shapes  # Else processes would hang, or fail.
    stacked = np.stack(self._values)
    self._barrier.wait(10)
    return stacked

  def of_main(self, value):
    self._values[self.local.process] = value
    self._barrier.wait(10)
    value = self._values[0]
    self._barrier.wait(10)
    return value


class SharesTest(parameterized.TestCase):

  @parameterized.product(
      total=(1, 2, 7, 8, 64, 65), batch=(1, 3, 8), count=(1, 2, 4, 5))
  def test_each_piece_is_one_processes(self, total, batch, count):
    shares = [shares_lib.Shares(total, batch, p, count) for p in range(count)]
    done = [number for share in shares for number in share.mine()]
    self.assertCountEqual(done, range(total))
    sizes = [len(share.mine()) for share in shares]
    self.assertLessEqual(max(sizes) - min(sizes), batch)
    self.assertEqual(max(sizes), sizes[0])
    for share in shares:
      mine, padded = share.mine(), share.padded()
      self.assertEqual(mine, sorted(mine))
      self.assertEqual(padded[:len(mine)], mine)
      self.assertLen(padded, max(len(mine), batch) if mine else 0)
      for first in range(0, len(mine), batch):
        self.assertEqual(mine[first] % batch, 0)
        whole = mine[first:first + batch]
        self.assertEqual(whole, list(range(whole[0], whole[0] + len(whole))))

  @parameterized.parameters(
      (64, 8, 4, 8), (31, 8, 4, 8), (10, 8, 4, 3), (3, 8, 4, 1), (5, 8, 1, 5),
      (100, 8, 1, 8))
  def test_batches_shrink_where_processes_would_be_idle(
      self, total, batch, count, expected):
    with mock.patch.object(shares_lib.jax, 'process_count', lambda: count):
      self.assertEqual(shares_lib.Shares.of(total, batch).batch, expected)

  @parameterized.parameters((7, 2, 3), (2, 1, 4), (8, 2, 2), (5, 2, 1))
  def test_all_processes_see_all_pieces(self, total, batch, count):
    hosts, found = _Hosts(count), [None] * count

    def work(process):
      hosts.local.process = process
      shares = shares_lib.Shares(total, batch, process, count)
      made = ((np.full((2, 3), number, np.uint8), np.array([number * 0.5]))
              for number in shares.mine())
      found[process] = list(shares.together(made))

    with mock.patch.object(multihost, 'gather', hosts.gather), \
        mock.patch.object(multihost, 'of_main', hosts.of_main):
      threads = [threading.Thread(target=work, args=(p,))
                 for p in range(count)]
      for thread in threads:
        thread.start()
      for thread in threads:
        thread.join(20)
    for pieces in found:
      self.assertCountEqual([number for number, _ in pieces], range(total))
      for number, (pixels, score) in pieces:
        self.assertEqual((pixels.dtype, score.dtype), (np.uint8, np.float64))
        np.testing.assert_array_equal(pixels, np.full((2, 3), number))
        self.assertEqual(score[0], number * 0.5)


if __name__ == '__main__':
  absltest.main()
