"""What people say about files: captions, official splits, segments.

Three kinds of annotation are read, told apart by what they hold:

  captions   .jsonl, .csv, .tsv or .parquet with a column of files and any of
             captions, label, split, start and end (names in `columns.py`);
             Hugging Face's metadata.csv and metadata.jsonl are such tables
  Kinetics   .csv with `youtube_id`, `time_start`, `time_end` and any of
             `label`, `split`; files are ID_START_END.* or whole videos ID.*
  UCF-101    a folder with classInd.txt, trainlist0N.txt and testlist0N.txt
"""
import collections
from collections.abc import Callable, Iterable, Sequence
import dataclasses
import os
import pathlib

from walt_jax.core import errors
from walt_jax.data.prepare import columns
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import matching
from walt_jax.data.prepare import segments
from walt_jax.data.prepare import tables
from walt_jax.data.prepare import ucf101

Annotation = segments.Annotation
Match = Callable[[Iterable[Annotation], Sequence[str], pathlib.Path],
                 matching.Found]

# Annotations that are found without being named, in any folder of the input.
CAPTION_FILES = frozenset(
    stem + suffix for stem in ('captions', 'metadata')
    for suffix in tables.SUFFIXES)
# More distinct captions than this are sentences, not names of classes.
MAX_CAPTION_CLASSES = 1000

_DESCRIBING = ('caption', 'label', 'split', 'start', 'end')


@dataclasses.dataclass(frozen=True)
class Matched:
  """Annotations beside the files that they are about.

  Attributes:
    segments: What is said of each segment, by path.
    missing: Lines that could not be understood or are about no file.
    by_end: Number of lines that found their file by the end of its path.
  """
  segments: dict[str, list[Annotation]]
  missing: list[listing.Rejection]
  by_end: int = 0


@dataclasses.dataclass(frozen=True)
class Annotations:
  """All annotations of an input.

  Attributes:
    origin: What they were read from, for messages.
    lines: What is said, in its order.
    match_lines: How lines find their files.
    bad: Lines that could not be understood.
    known_classes: Class names in official order, or None.
    sources: Files that were read; they are not data.
    is_one: Whether what they were read from counts as one table.
  """
  origin: str
  lines: tuple[Annotation, ...]
  match_lines: Match
  bad: tuple[listing.Rejection, ...]
  known_classes: tuple[str, ...] | None = None
  sources: tuple[pathlib.Path, ...] = ()
  is_one: bool = False

  def match(self, paths: Sequence[str], folder: pathlib.Path) -> Matched:
    """Finds what is said of each file.

    Args:
      paths: Files, relative to the input folder, with '/'.
      folder: The input.

    Raises:
      errors.UserError: Nothing of one of the tables is about any file.
    """
    found, missing, by_end = self.match_lines(self.lines, paths, folder)
    self._check_used(found, paths, folder)
    captions_are_classes = _are_classes(self.lines, found.values())
    merged = {}
    for path, lines in found.items():
      merged[path], contradictions = segments.merge(lines)
      missing += contradictions
      if captions_are_classes:
        merged[path] = [
            dataclasses.replace(line, label=next(iter(line.captions), None))
            for line in merged[path]]
    return Matched(merged, [*self.bad, *missing], by_end)

  def _check_used(self, found: dict[str, list[Annotation]],
                  paths: Sequence[str], folder: pathlib.Path) -> None:
    """Raises UserError for a table that is about none of the files."""
    used = {self._table(line) for lines in found.values() for line in lines}
    counts = collections.Counter(map(self._table, self.lines))
    for line in self.lines:
      table = self._table(line)
      if table not in used:
        held = f'such as {paths[0]!r}' if paths else 'none that it could name'
        raise errors.UserError(
            f'none of the {counts[table]} lines of {table} is about a file in '
            f'--input {str(folder)!r}: the first names {line.name!r}, but the '
            f'files there are {held}; correct the names, or choose the table '
            'by --annotations')

  def _table(self, line: Annotation) -> str:
    return self.origin if self.is_one else line.where.rpartition(':')[0]


def _are_classes(lines: Iterable[Annotation],
                 found: Iterable[list[Annotation]]) -> bool:
  """Whether captions serve as names of classes.

  They do when there are no labels, few distinct captions, and one for each
  segment.
  """
  captions: set[str] = set()
  for line in lines:
    captions.update(line.captions)
    if (line.label or len(line.captions) > 1
        or len(captions) > MAX_CAPTION_CLASSES):
      return False
  for own in found:
    by_segment: dict[tuple, tuple[str, ...]] = {}
    if any(by_segment.setdefault(line.segment, line.captions) != line.captions
           for line in own):
      return False
  return True


def find(folder: pathlib.Path) -> list[pathlib.Path]:
  """Caption files that lie in an input folder or below."""
  seen, found = set(), []
  for top, folders, names in os.walk(folder, followlinks=True):
    status = os.stat(top)
    if (status.st_dev, status.st_ino) in seen:
      folders.clear()
      continue
    seen.add((status.st_dev, status.st_ino))
    folders[:] = sorted(name for name in folders if not name.startswith('.'))
    found += [pathlib.Path(top, name) for name in sorted(names)
              if is_table(name)]
  return found


def is_table(path: str) -> bool:
  """Whether a file is found to be a table without being named."""
  return path.rpartition('/')[2].lower() in CAPTION_FILES


def read_found(folder: pathlib.Path) -> Annotations | None:
  """Reads the caption files in an input folder; None if there are none.

  Raises:
    errors.UserError: One of them cannot be used.
  """
  found = find(folder)
  try:
    return read(found, folder=folder) if found else None
  except errors.UserError as error:
    raise errors.UserError(
        f'{error}; it lies in --input {str(folder)!r} under a name of caption '
        'files: rename it if it is none, or choose others by --annotations'
    ) from error


def read(paths: list[pathlib.Path], ucf_split: int = 1, *,
         folder: pathlib.Path | None = None) -> Annotations:
  """Reads annotations; several files must be of one kind.

  Args:
    paths: Files, or one folder of UCF-101's official lists.
    ucf_split: Which of the three official splits.
    folder: The input folder in which they were found: names are then relative
      to each table's own folder.

  Raises:
    errors.UserError: Unreadable or unknown files, or one without any usable
      line.
  """
  if len(paths) == 1 and paths[0].is_dir():
    split = ucf101.read(paths[0], ucf_split)
    return Annotations(paths[0].name, split.lines, _by_name, split.bad,
                       split.classes, split.sources, is_one=True)
  shown = _shown(paths, folder)
  origin = ', '.join(shown)
  bad: list[listing.Rejection] = []
  kinds, lines = set(), []
  for path, where in zip(paths, shown, strict=True):
    kind, found = _read_table(path, where, bad)
    kinds.add(kind)
    if folder is not None:
      found = [_inside(line, path.parent.relative_to(folder))
               for line in found]
    lines += found
  if len(kinds) > 1:
    raise errors.UserError(f'annotations {origin} are of different kinds: '
                           'give captions or Kinetics lists, not both')
  match = (_by_youtube_id if kinds == {columns.KINETICS_ID}
           else matching.by_path)
  return Annotations(origin, tuple(lines), match, tuple(bad),
                     sources=tuple(paths))


def _by_name(lines: Iterable[Annotation], paths: Sequence[str],
             folder: pathlib.Path) -> matching.Found:
  del folder  # Names have no folders.
  return matching.by_name(lines, paths)


def _by_youtube_id(lines: Iterable[Annotation], paths: Sequence[str],
                   folder: pathlib.Path) -> matching.Found:
  del folder  # Names have no folders.
  return matching.by_youtube_id(lines, paths)


def _shown(paths: Sequence[pathlib.Path],
           folder: pathlib.Path | None) -> list[str]:
  """What the tables are called in messages."""
  if folder is not None:
    return [path.relative_to(folder).as_posix() for path in paths]
  names = [path.name for path in paths]
  return names if len(set(names)) == len(names) else list(map(str, paths))


def _inside(line: Annotation, folder: pathlib.PurePath) -> Annotation:
  """A line whose name is relative to a folder of the input."""
  name = line.name.strip()
  if folder == pathlib.PurePath('.') or matching.is_absolute(name):
    return line
  return dataclasses.replace(line, name=f'{folder.as_posix()}/{name}')


def _read_table(path: pathlib.Path, where: str, bad: list[listing.Rejection]
                ) -> tuple[str, list[Annotation]]:
  """Reads one table; returns its kind and lines."""
  numbered: list[tuple[int, Annotation]] = []
  own_bad: list[listing.Rejection] = []
  names: set[str] = set()
  for number, row in tables.rows(path, where, own_bad):
    names.update(row)
    place = f'{where}:{number}'
    try:
      line = (columns.kinetics_line if columns.KINETICS_ID in row
              else columns.caption_line)(row, place)
    except (ValueError, TypeError, OverflowError) as error:
      own_bad.append(
          listing.Rejection(place, f'cannot use this line: {error}'))
      continue
    numbered.append((number, line))
  _check_columns(where, names, bool(numbered), own_bad)
  bad += own_bad
  lines = [line for _, line in sorted(numbered, key=lambda item: item[0])]
  kind = columns.KINETICS_ID if columns.KINETICS_ID in names else 'captions'
  return kind, lines


def _check_columns(where: str, names: set[str], usable: bool,
                   bad: Sequence[listing.Rejection]) -> None:
  """Raises UserError for a table that says nothing."""
  roles = set(map(columns.role_of, names))
  if names:
    columns.check_names(sorted(names), where)
  if not usable:
    reason = f' ({bad[0].file}: {bad[0].reason})' if bad else ''
    raise errors.UserError(
        f'no line of {where} can be used{reason or ": it has none"}')
  if len(names) > 1 and not roles.intersection(_DESCRIBING):
    raise errors.UserError(
        f'{where} says nothing of its files: none of its columns '
        f'{", ".join(map(repr, sorted(names)))} is known '
        f'({columns.looked_for(*_DESCRIBING)})')
