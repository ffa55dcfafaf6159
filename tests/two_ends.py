"""Files of tests handed to processes from both ends of one list."""
from collections.abc import Iterable
from typing import Any

from xdist.scheduler import loadfile


def place(item: Any) -> int:
  """Which third of the list a test's file belongs to.

  The first shares tiny runs of `walt` (`tests.e2e.tiny`) and their programs,
  which one process then compiles once. The last are other files with slow
  tests. What both ends come to last are short files, so that no process waits
  for another.
  """
  if hasattr(item.module, 'tiny'):
    return 0
  return 2 if item.get_closest_marker('slow') else 1


def ordered(items: Iterable[Any]) -> list[Any]:
  """Tests by the place of their file, else as they are."""
  items = list(items)
  places: dict[Any, int] = {}
  for item in items:
    places[item.path] = max(places.get(item.path, 0), place(item))
  return sorted(items, key=lambda item: places[item.path])


class Scheduling(loadfile.LoadFileScheduling):
  """Every other process takes files from the end of the list."""

  def _assign_work_unit(self, node):
    if self.nodes.index(node) % 2:
      self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
    super()._assign_work_unit(node)
