"""Progress with rate and time left, for anything longer than a few seconds."""
from collections.abc import Iterable, Iterator, Sized
import sys
from typing import TypeVar

import tqdm

T = TypeVar('T')

_QUIET_SECONDS = 3.0  # Work that ends sooner prints nothing.
_LOG_EVERY_SECONDS = 10.0  # Between lines when nobody watches a terminal.


def bar(total: int | None, label: str, unit: str = 'it',
        initial: int = 0) -> tqdm.tqdm:
  """Returns a progress bar on standard error: `with bar(..) as b: b.update()`.

  Args:
    total: Units of work in all, or None when unknown.
    label: What is being done, in a few words.
    unit: What one unit is called.
    initial: Units done by an earlier, interrupted run.
  """
  watched = sys.stderr.isatty()
  return tqdm.tqdm(
      total=total, desc=label, unit=unit, initial=initial, file=sys.stderr,
      delay=_QUIET_SECONDS, dynamic_ncols=watched,
      mininterval=0.5 if watched else _LOG_EVERY_SECONDS)


def track(items: Iterable[T], label: str, unit: str = 'it',
          total: int | None = None) -> Iterator[T]:
  """Yields `items` while showing rate and time left on standard error."""
  if total is None and isinstance(items, Sized):
    total = len(items)
  with bar(total, label, unit) as progress:
    for item in items:
      yield item
      progress.update()
