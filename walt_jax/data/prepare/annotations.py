"""What people say about files: captions, official splits, segments.

Four kinds of annotation are read, told apart by what they hold:

  captions   .jsonl, .csv or .parquet with a column `file` and any of
             `caption`, `label`, `split`, `start`, `end`
  Kinetics   .csv with `youtube_id`, `time_start`, `time_end` and any of
             `label`, `split`; files are ID_START_END.* or whole videos ID.*
  UCF-101    a folder with classInd.txt, trainlist0N.txt and testlist0N.txt
"""
from collections.abc import Iterable, Iterator
import csv
import dataclasses
import json
import math
import pathlib
from typing import Any

from walt_jax.core import errors
from walt_jax.core import extras
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import segments
from walt_jax.data.storage import names as names_lib

# Annotations that are found without being named.
CAPTION_FILES = ('captions.jsonl', 'captions.csv', 'captions.parquet')
# More distinct captions than this are sentences, not names of classes.
MAX_CAPTION_CLASSES = 1000

_ALIASES = {
    'file': ('file', 'path', 'video', 'filename', 'file_name'),
    'caption': ('caption', 'text'), 'label': ('label', 'class'),
    'split': ('split',), 'start': ('start', 'time_start'),
    'end': ('end', 'time_end')}
_KINETICS = 'youtube_id'


Annotation = segments.Annotation


class Annotations:
  """All annotations of an input, looked up by file.

  Attributes:
    origin: What they were read from, for messages.
    sources: Files that were read; they are not data.
    known_classes: Class names in official order, or None.
    bad: Lines that could not be understood.
  """

  def __init__(self, origin: str, by: str, lines: Iterable[Annotation],
               bad: list[listing.Rejection],
               known_classes: tuple[str, ...] | None = None,
               sources: Iterable[pathlib.Path] = ()):
    """Indexes lines `by` 'path', 'name' (without folders) or 'stem'."""
    self.origin, self._by = origin, by
    self.bad, self.known_classes = bad, known_classes
    self.sources = frozenset(path.resolve() for path in sources)
    self._lines: dict[str, list[Annotation]] = {}
    for line in lines:
      key = (pathlib.PurePosixPath(line.name).as_posix() if by == 'path'
             else pathlib.PurePosixPath(line.name).name)
      self._lines.setdefault(key, []).append(line)
    self._captions_are_classes = _are_classes(self._lines.values())
    self._used: set[str] = set()
    self._used_segments: set[str] = set()

  def match(self, path: str) -> list[Annotation]:
    """What is said about each segment of a file; remembers that it was found.

    Args:
      path: Relative to the input folder, with '/'.
    """
    merged, contradictions = segments.merge(self._match(path))
    self.bad += contradictions
    return merged

  def _match(self, path: str) -> list[Annotation]:
    """The lines about a file."""
    pure = pathlib.PurePosixPath(path)
    key = dict(path=path, name=pure.name, stem=pure.stem)[self._by]
    found = self._lines.get(key, [])
    if found:
      self._used.add(key)
    elif self._by == 'stem':
      return self._match_trimmed(pure.stem)
    return found

  def _match_trimmed(self, stem: str) -> list[Annotation]:
    """A Kinetics file that was cut already: ID_START_END."""
    parts = stem.rsplit('_', 2)
    if len(parts) != 3 or not (parts[1] + parts[2]).isdecimal():
      return []
    for line in self._lines.get(parts[0], []):
      if (line.start, line.end) == (float(parts[1]), float(parts[2])):
        self._used_segments.add(line.where)
        return [dataclasses.replace(line, start=None, end=None)]
    return []

  def label_of(self, line: Annotation) -> str | None:
    """The class that a line gives, if any."""
    if line.label:
      return line.label
    return line.captions[0] if (
        line.captions and self._captions_are_classes) else None

  def missing(self) -> list[listing.Rejection]:
    """Bad lines, and lines about files that `match` was never asked for."""
    return self.bad + [
        listing.Rejection(line.name, f'named in {line.where}, but no such '
                          'file')
        for key, lines in self._lines.items() if key not in self._used
        for line in lines if line.where not in self._used_segments]


def _are_classes(lines: Iterable[list[Annotation]]) -> bool:
  """Whether captions serve as names of classes.

  They do when there are no labels, few distinct captions, and one for each
  segment.
  """
  captions: set[str] = set()
  for found in lines:
    by_segment: dict[tuple, tuple[str, ...]] = {}
    for line in found:
      if line.label or len(line.captions) > 1 or by_segment.setdefault(
          line.segment, line.captions) != line.captions:
        return False
      captions.update(line.captions)
  return len(captions) <= MAX_CAPTION_CLASSES


def find(folder: pathlib.Path) -> list[pathlib.Path]:
  """Caption files that lie in an input folder."""
  return [folder / name for name in CAPTION_FILES if (folder / name).exists()]


def read(paths: list[pathlib.Path], ucf_split: int = 1) -> Annotations:
  """Reads annotations; several files must be of one kind.

  Args:
    paths: Files, or one folder of UCF-101's official lists.
    ucf_split: Which of the three official splits.

  Raises:
    errors.UserError: Unreadable or unknown files.
  """
  if len(paths) == 1 and paths[0].is_dir():
    return _read_ucf101(paths[0], ucf_split)
  origin = ', '.join(path.name for path in paths)
  bad: list[listing.Rejection] = []
  kinds, lines = set(), []
  for path in paths:
    kind, found = _read_table(path, bad)
    kinds.add(kind)
    lines += found
  if len(kinds) > 1:
    raise errors.UserError(f'annotations {origin} are of different kinds: '
                           'give captions or Kinetics lists, not both')
  by = 'stem' if kinds == {_KINETICS} else 'path'
  return Annotations(origin, by, lines, bad, sources=paths)


def _read_table(path: pathlib.Path, bad: list[listing.Rejection]
                ) -> tuple[str, list[Annotation]]:
  """Reads one table; returns its kind and lines."""
  lines = []
  kinetics = False
  for number, row in _rows(path, bad):
    kinetics = kinetics or _KINETICS in row
    where = f'{path.name}:{number}'
    try:
      lines.append(_kinetics_line(row, where) if kinetics
                   else _caption_line(row, where))
    except (ValueError, KeyError, TypeError) as error:
      bad.append(listing.Rejection(where, f'cannot use this line: {error}'))
  return _KINETICS if kinetics else 'captions', lines


def _rows(path: pathlib.Path, bad: list[listing.Rejection]
          ) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, columns) of a table."""
  suffix = path.suffix.lower()
  try:
    if suffix == '.parquet':
      yield from enumerate(_parquet(path), start=1)
    elif suffix == '.csv':
      with path.open(encoding='utf-8-sig', newline='') as file:
        reader = csv.DictReader(file)
        for row in reader:
          yield reader.line_num, row
    elif suffix == '.jsonl':
      yield from _json_lines(path, bad)
    else:
      raise errors.UserError(
          f'annotations {str(path)!r} are not .jsonl, .csv or .parquet, nor a '
          'folder of UCF-101 lists')
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise errors.UserError(f'cannot read {str(path)!r}: {error}') from error


def _json_lines(path, bad) -> Iterator[tuple[int, dict[str, Any]]]:
  with path.open(encoding='utf-8') as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        row = json.loads(line)
        if not isinstance(row, dict):
          raise ValueError('not an object {"file": .., "caption": ..}')
      except ValueError as error:
        bad.append(listing.Rejection(f'{path.name}:{number}',
                                     f'cannot use this line: {error}'))
        continue
      yield number, row


def _parquet(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  with extras.needed('data', f'reading {path.name}', 'PyArrow'):
    import pyarrow
    from pyarrow import parquet
  try:
    file = parquet.ParquetFile(path)
    for group in file.iter_batches():
      yield from group.to_pylist()
  except pyarrow.ArrowException as error:
    raise errors.UserError(f'cannot read {str(path)!r}: {error}') from error


def _column(row: dict[str, Any], name: str) -> Any:
  for alias in _ALIASES[name]:
    if row.get(alias) not in (None, ''):
      return row[alias]
  return None


def _text(row: dict[str, Any], name: str) -> str | None:
  value = _column(row, name)
  if value is None or isinstance(value, str):
    return value
  if name == 'label' and isinstance(value, int):
    return str(value)
  raise ValueError(f'{name} is {value!r}, not a text')


def _seconds(value: Any) -> float | None:
  if value is None:
    return None
  seconds = float(value)
  if not math.isfinite(seconds) or seconds < 0:
    raise ValueError(f'{value!r} is no time in seconds')
  return seconds


def _split(row: dict[str, Any]) -> str | None:
  name = _text(row, 'split')
  if name is None:
    return None
  split = listing.split_of_name(name)
  if split is None:
    raise ValueError(f'unknown split {name!r}')
  return split


def _caption_line(row: dict[str, Any], where: str) -> Annotation:
  name = _text(row, 'file')
  if name is None:
    raise ValueError(f'no column "file" among {", ".join(map(str, row))}')
  start, end = (_seconds(_column(row, key)) for key in ('start', 'end'))
  if end is not None and end <= (start or 0):
    raise ValueError(f'the segment ends at {end:g} s, before it starts')
  caption = _text(row, 'caption')
  return Annotation(name, where, (caption,) if caption else (),
                    _text(row, 'label'), _split(row), start, end)


def _kinetics_line(row: dict[str, Any], where: str) -> Annotation:
  start, end = _seconds(row['time_start']), _seconds(row['time_end'])
  if not row[_KINETICS] or start is None or end is None or end <= start:
    raise ValueError(f'no segment: {row}')
  label = _text(row, 'label')
  return Annotation(row[_KINETICS], where, _words(label),
                    label or listing.UNLABELLED, _split(row), start, end)


def _words(label: str | None) -> tuple[str, ...]:
  """A class name as a caption, if it holds words."""
  words = names_lib.spaced(label or '')
  return (words,) if words else ()


def _read_ucf101(folder: pathlib.Path, number: int) -> Annotations:
  """Reads one of UCF-101's official splits."""
  names = dict(classInd=folder / 'classInd.txt',
               train=folder / f'trainlist{number:02d}.txt',
               heldout=folder / f'testlist{number:02d}.txt')
  lines, bad, classes = [], [], []
  for what, path in names.items():
    try:
      text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
      raise errors.UserError(
          f'cannot read the UCF-101 list {str(path)!r}: {error}') from error
    for place, line in enumerate(text.splitlines(), start=1):
      words = line.split()
      where = f'{path.name}:{place}'
      if not words:
        continue
      if what == 'classInd':
        classes.append(words[-1])
        continue
      label, slash, _ = words[0].partition('/')
      if not slash or label not in classes:
        bad.append(listing.Rejection(
            where, f'cannot use this line: {line!r}'))
        continue
      lines.append(Annotation(words[0], where, _words(label), label, what))
  return Annotations(folder.name, 'name', lines, bad, tuple(classes),
                     names.values())
