"""Work that waits for files, done in a few threads at once."""
import collections
from collections.abc import Callable, Iterable, Iterator
import concurrent.futures
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], *,
              threads: int, ahead: int) -> Iterator[Result]:
  """Maps in order, in threads that may be `ahead` of what is taken.

  Args:
    function: Called in a thread. What it raises for an item comes out at that
      item's turn; items behind it are then dropped.
    items: Its arguments.
    threads: How many at once.
    ahead: Results that are made or kept at most.
  """
  pool = concurrent.futures.ThreadPoolExecutor(threads)
  waiting: collections.deque[concurrent.futures.Future[Result]] = (
      collections.deque())
  try:
    for item in items:
      waiting.append(pool.submit(function, item))
      if len(waiting) >= ahead:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)
