"""CSV as people write it: any delimiter, unquoted commas, quotes left open.

A row that can be read in one way only is read so; every other one is refused
by its line, and the next line starts afresh.
"""
import collections
from collections.abc import Iterable, Iterator, Sequence
import csv
import dataclasses
import re
from typing import Any

from walt_jax.core import errors
from walt_jax.data.prepare import columns as columns_lib
from walt_jax.data.prepare import listing

_DELIMITERS = (',', '\t', ';', '|')
# A text in quotes that is longer was never closed.
_MOST_LINES = 200
_MOST_LABELS = 10_000  # Known by name; more are free text.
_SUFFIX = re.compile(r'\.[A-Za-z0-9]{1,5}$')
_REASONS = (
    ('unexpected end of data', 'a quote is never closed'),
    ('expected after', 'text follows a closing quote: write each quote inside '
     'a quoted text twice'))


@dataclasses.dataclass(frozen=True, slots=True)
class _Record:
  """Fields of one row, or why there are none; the number of its first line."""
  number: int
  text: str
  fields: tuple[str, ...] = ()
  problem: str = ''


def read(lines: Iterable[str], where: str, bad: list[listing.Rejection]
         ) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, cells by normalised column name) of a table.

  Rows with an unquoted comma come last: the others tell which columns could
  hold it.

  Args:
    lines: Lines with their ends, the header first.
    where: Name of the table, for messages.
    bad: Gets rows that cannot be read, by line.

  Raises:
    errors.UserError: The header names no files.
  """
  below = iter(lines)
  first, header = next(((number, line) for number, line in enumerate(below, 1)
                        if line.strip()), (0, ''))
  if not header:
    raise errors.UserError(
        f'{where} is empty: its first line must name the columns '
        f'({columns_lib.looked_for("file")})')
  delimiter, names = _header(header, where)
  shape = _Shape(names, delimiter)
  long = []
  for record in _records(below, delimiter, first + 1):
    if record.problem:
      bad.append(listing.Rejection(f'{where}:{record.number}', record.problem))
    elif len(record.fields) > len(names):
      long.append(record)
    elif any(field.strip() for field in record.fields):
      if len(record.fields) < shape.needed:
        bad.append(listing.Rejection(
            f'{where}:{record.number}', f'{len(record.fields)} fields for '
            f'{len(names)} columns'))
        continue
      shape.learn(record.fields)
      yield record.number, _cells(names, record.fields)
  for record in long:
    try:
      fields = shape.fit(record)
    except ValueError as error:
      bad.append(listing.Rejection(f'{where}:{record.number}', str(error)))
      continue
    yield record.number, _cells(names, fields)


def _header(line: str, where: str) -> tuple[str, list[str]]:
  """The delimiter, and the normalised names of the columns."""
  found: dict[str, list[str]] = {}
  for delimiter in _DELIMITERS:
    record = next(_records([line], delimiter, 1))
    found[delimiter] = list(map(columns_lib.normalised, record.fields))
  for delimiter, names in found.items():
    if 'file' in map(columns_lib.role_of, names) or (
        columns_lib.KINETICS_ID in names):
      return delimiter, names
  delimiter, names = max(found.items(), key=lambda item: len(item[1]))
  columns_lib.check_names(names, f'the first line of {where}')
  return delimiter, names


def _cells(names: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
  """Cells by column; those of columns that share a name as a list."""
  cells: dict[str, Any] = {}
  for name, field in zip(names, fields, strict=False):
    if name in cells:
      before = cells[name] if isinstance(cells[name], list) else [cells[name]]
      cells[name] = [*before, field]
    else:
      cells[name] = field
  return cells


def _records(lines: Iterable[str], delimiter: str,
             number: int) -> Iterator[_Record]:
  """Parses row by row; after one that cannot be, at the line below its first.

  Args:
    lines: Lines with their ends.
    delimiter: Between fields.
    number: Number of the first line.
  """
  feed = _Feed(lines)
  reader = csv.reader(feed, delimiter=delimiter, strict=True,
                      skipinitialspace=True)
  while True:
    feed.taken.clear()
    problem, fields = '', None
    try:
      fields = next(reader, None)
    except csv.Error as error:
      problem = next((reason for part, reason in _REASONS
                      if part in str(error)), str(error))
      feed.give_back()
    if not feed.taken:
      return
    yield _Record(number, ''.join(feed.taken), tuple(fields or ()), problem)
    number += len(feed.taken)


class _Feed:
  """Lines for a reader, which ends for it after too many for one row.

  Attributes:
    taken: Lines of the present row.
  """

  def __init__(self, lines: Iterable[str]):
    self._lines = iter(lines)
    self._again: collections.deque[str] = collections.deque()
    self.taken: list[str] = []

  def __iter__(self) -> Iterator[str]:
    return self

  def __next__(self) -> str:
    if len(self.taken) >= _MOST_LINES:
      raise StopIteration
    line = self._again.popleft() if self._again else next(self._lines)
    self.taken.append(line)
    return line

  def give_back(self) -> None:
    """Offers the lines below the first one again."""
    self._again.extendleft(reversed(self.taken[1:]))
    del self.taken[1:]


class _Shape:
  """What the cells of each column look like, learnt from whole rows."""

  def __init__(self, names: Sequence[str], delimiter: str):
    self._names, self._delimiter = names, delimiter
    self._roles = [columns_lib.role_of(name) for name in names]
    self._numeric = [True] * len(names)
    self._labels: set[str] = set()
    self._suffixes: set[str] = set()  # Of files; '' for none.
    self._rows = 0
    # Columns behind these may be left out.
    self.needed = 1 + max((
        place for place, role in enumerate(self._roles)
        if role in ('file', 'caption', 'label')), default=0)

  def learn(self, fields: Sequence[str]) -> None:
    """Takes note of a row with a field for each column."""
    self._rows += 1
    for place, (role, field) in enumerate(
        zip(self._roles, fields, strict=False)):
      if role == 'label' and len(self._labels) <= _MOST_LABELS:
        self._labels.add(field.strip())
      elif role == 'file':
        self._suffixes.add(_suffix(field))
      elif role is None and self._numeric[place]:
        self._numeric[place] = not field.strip() or _is_number(field)

  def fit(self, record: _Record) -> list[str]:
    """The fields of a row of which one column holds unquoted delimiters.

    Raises:
      ValueError: There is not exactly one such column.
    """
    fields = list(record.fields)
    # With the blanks that follow a comma inside a text.
    as_written = next(csv.reader([record.text], delimiter=self._delimiter))
    if len(as_written) == len(fields):
      fields = as_written
    extra = len(fields) - len(self._names)
    ways = {}
    for place, name in enumerate(self._names):
      joined = self._delimiter.join(fields[place:place + extra + 1])
      way = [*fields[:place], joined, *fields[place + extra + 1:]]
      if self._roles[place] == 'file' and self._is_file(fields[place]):
        continue  # It was a whole name before the comma.
      if all(map(self._fits, range(len(way)), way)):
        ways[name] = way
    if len(ways) == 1:
      return next(iter(ways.values()))
    could = (f'it may belong to {" or ".join(ways)}' if ways
             else 'no column can hold it')
    raise ValueError(
        f'{len(fields)} fields for {len(self._names)} columns: a text with '
        f'{self._delimiter!r} in it must stand in quotes, and {could}')

  def _is_file(self, field: str) -> bool:
    """Whether a field looks like the names of files in other rows."""
    suffix = _suffix(field)
    return suffix in self._suffixes if self._rows else bool(suffix)

  def _fits(self, place: int, field: str) -> bool:
    """Whether a column may hold a field."""
    role, text = self._roles[place], field.strip()
    if role == 'file':
      return self._is_file(text)
    if role == 'label':
      return not self._rows or len(self._labels) > _MOST_LABELS or (
          text in self._labels)
    if role == 'split':
      return not text or listing.split_of_name(text) is not None
    if role in ('start', 'end'):
      return not text or _is_number(text)
    if role is None:
      return not self._rows or not self._numeric[place] or (
          not text or _is_number(text))
    return True


def _suffix(name: str) -> str:
  found = _SUFFIX.search(name.strip())
  return found[0].lower() if found else ''


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True
