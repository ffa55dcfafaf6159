"""Both processes that share the tests come to short files last."""
import collections
import pathlib
import types

from absl.testing import absltest

from tests import two_ends


class Item:
  """A test as pytest collects it."""

  def __init__(self, file, *, tiny=False, slow=False):
    self.path = pathlib.Path(file)
    self.module = types.SimpleNamespace(**dict(tiny=1) if tiny else {})
    self.slow = slow

  def get_closest_marker(self, name):
    return self.slow if name == 'slow' else None


class Node:
  """A process that shares the tests."""

  def __init__(self):
    self.asked = []

  def send_runtest_some(self, indexes):
    self.asked += indexes


class TwoEndsTest(absltest.TestCase):

  def test_files_that_share_runs_come_first_and_other_slow_ones_last(self):
    items = [Item('a'), Item('b', slow=True), Item('c', tiny=True, slow=True),
             Item('d', tiny=True), Item('b'), Item('e')]
    self.assertEqual([item.path.name for item in two_ends.ordered(items)],
                     ['c', 'd', 'a', 'e', 'b', 'b'])

  def test_every_other_process_takes_files_from_the_end(self):
    shared = object.__new__(two_ends.Scheduling)
    tests = [f'{file}::test' for file in 'abcdefg']
    nodes = [Node() for _ in range(3)]
    shared.workqueue = collections.OrderedDict(
        (test, {test: False}) for test in tests)
    shared.assigned_work = {node: {} for node in nodes}
    shared.registered_collections = dict.fromkeys(nodes, tests)
    for index in (0, 1, 2, 1, 1, 0, 1):
      shared._assign_work_unit(nodes[index])
    self.assertEqual([node.asked for node in nodes],
                     [[0, 2], [6, 5, 4, 3], [1]])


if __name__ == '__main__':
  absltest.main()
