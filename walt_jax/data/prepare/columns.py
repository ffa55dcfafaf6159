"""What the columns of a table or the keys of an object say of a file.

Names of columns count without case, and with blanks or hyphens for `_`.
"""
from collections.abc import Iterable, Iterator, Mapping, Sequence
import decimal
import functools
import math
import numbers
import re
from typing import Any

import numpy as np

from walt_jax.core import errors
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import segments
from walt_jax.data.storage import names as names_lib

Row = Mapping[str, Any]  # By `normalised` names.

KINETICS_ID = 'youtube_id'
# What a role's column may be called; the first one that says something counts.
NAMES = {
    'file': ('file', 'path', 'video', 'filename', 'file_name', 'file_path',
             'filepath', 'video_path', 'video_file', 'video_file_name',
             'video_name', 'video_id', 'image', 'image_path', 'image_file',
             'image_file_name', 'image_name'),
    'caption': ('caption', 'captions', 'text', 'texts', 'prompt', 'prompts'),
    'label': ('label', 'class', 'class_name', 'label_name', 'category'),
    'split': ('split',), 'start': ('start', 'time_start', 'start_time'),
    'end': ('end', 'time_end', 'end_time')}
_ROLES = {name: role for role, names in NAMES.items() for name in names}

_WHOLE = re.compile(r'[+-]?\d+(\.0*)?')
_FRACTION = re.compile(r'[+-]?\d*\.\d+')
_BOOLEANS = {'true': '1', 'false': '0'}


def normalised(name: Any) -> str:
  """The name of a column as it is looked for: ' File Name' -> 'file_name'."""
  return re.sub(r'[\s\-_]+', '_', str(name).strip()).casefold().strip('_')


def role_of(name: str) -> str | None:
  """What a column says, by its normalised name.

  Captions may be numbered: `caption_1`, `caption_2`.
  """
  if _ROLES.get(_unnumbered(name)) == 'caption':
    return 'caption'
  return _ROLES.get(name)


@functools.lru_cache(maxsize=1024)
def _unnumbered(name: str) -> str:
  return name.rstrip('0123456789').rstrip('_')


def looked_for(*roles: str) -> str:
  """The names of some roles' columns, for messages."""
  return '; '.join(f'for the {role}: {", ".join(NAMES[role])}'
                   for role in roles)


def check_names(names: Sequence[str], where: str) -> None:
  """Raises UserError for columns, by normalised name, that name no files."""
  if KINETICS_ID not in names and 'file' not in map(role_of, names):
    raise errors.UserError(
        f'{where} has no column of file names, but '
        f'{", ".join(map(repr, names))}; it must have one '
        f'({looked_for("file")})')


def captions(row: Row) -> tuple[str, ...]:
  """All captions of a row, each once; () for none.

  Raises:
    ValueError: One is no text.
  """
  columns: dict[str, list[Any]] = {}
  for key, value in row.items():
    name = _unnumbered(key)
    if _ROLES.get(name) == 'caption':
      columns.setdefault(name, []).append(value)
  for name in NAMES['caption'] if columns else ():
    found = dict.fromkeys(_texts(columns.get(name, ())))
    if found:
      return tuple(found)
  return ()


def _texts(values: Iterable[Any]) -> Iterator[str]:
  """Yields texts that are not empty, lists of them one by one."""
  for value in values:
    if isinstance(value, list | tuple | np.ndarray):
      yield from _texts(value)
    elif not _absent(value):
      if not isinstance(value, str | numbers.Number) or isinstance(value, bool):
        raise ValueError(f'the caption is {value!r}, not a text')
      if text := str(value).strip():
        yield text


def class_name(value: Any) -> str | None:
  """The class that a label of any type names; None for no label.

  Whole numbers are the same class whatever holds them: 3, 3.0, '3', '3.0' and
  numbers of NumPy; true and false are 1 and 0, as texts, too.

  Raises:
    ValueError: It is neither a text nor a whole number.
  """
  if isinstance(value, np.generic):
    value = value.item()
  if _absent(value):
    return None
  if isinstance(value, bool):
    return str(int(value))
  if isinstance(value, int):
    return str(value)
  if isinstance(value, numbers.Real | decimal.Decimal):
    if not math.isfinite(value) or value != math.trunc(value):
      raise ValueError(f'the label is {value!r}, not a whole number or a name')
    return str(math.trunc(value))
  if not isinstance(value, str):
    raise ValueError(f'the label is {value!r}, not a number or a name')
  text = value.strip()
  if _WHOLE.fullmatch(text) and not _has_leading_zero(text):
    return str(int(text.partition('.')[0]))
  if _FRACTION.fullmatch(text):
    raise ValueError(f'the label is {text}, not a whole number or a name')
  return _BOOLEANS.get(text.lower(), text)


def _has_leading_zero(text: str) -> bool:
  """Whether a number is written like '007', which is a name."""
  return bool(re.match(r'[+-]?0\d', text))


def _absent(value: Any) -> bool:
  """Whether a cell says nothing: null, not a number, or blank."""
  if isinstance(value, str):
    return not value.strip()
  return value is None or (isinstance(value, numbers.Number)
                           and value != value)


def _cell(row: Row, role: str) -> Any:
  for name in NAMES[role]:
    if name in row and not _absent(row[name]):
      return row[name]
  return None


def _text(row: Row, role: str) -> str | None:
  value = _cell(row, role)
  if value is None or isinstance(value, str):
    return value
  raise ValueError(f'the {role} is {value!r}, not a text')


def seconds(value: Any) -> float | None:
  """A time; None for nothing.

  Raises:
    ValueError: It is not one.
  """
  if _absent(value):
    return None
  number = float(value)
  if not math.isfinite(number) or number < 0:
    raise ValueError(f'{value!r} is no time in seconds')
  return number


def _split(row: Row) -> str | None:
  name = _text(row, 'split')
  if name is None:
    return None
  split = listing.split_of_name(name)
  if split is None:
    raise ValueError(f'unknown split {name!r}')
  return split


def label(row: Row) -> str | None:
  """The class that a row names, if any; raises ValueError as `class_name`."""
  return class_name(_cell(row, 'label'))


def caption_line(row: Row, where: str) -> segments.Annotation:
  """What a row of a table of captions says.

  Raises:
    ValueError: It cannot be used.
  """
  name = _text(row, 'file')
  if name is None:
    raise ValueError(f'it names no file (columns {", ".join(row)})')
  start, end = (seconds(_cell(row, role)) for role in ('start', 'end'))
  if end is not None and end <= (start or 0):
    raise ValueError(f'the segment ends at {end:g} s, before it starts')
  return segments.Annotation(name, where, captions(row), label(row),
                             _split(row), start, end)


def kinetics_line(row: Row, where: str) -> segments.Annotation:
  """What a row of a Kinetics list says.

  Raises:
    ValueError: It cannot be used.
  """
  start, end = (seconds(_cell(row, role)) for role in ('start', 'end'))
  if not row.get(KINETICS_ID) or start is None or end is None or end <= start:
    raise ValueError(f'it names no segment: {dict(row)}')
  name = label(row)
  return segments.Annotation(
      str(row[KINETICS_ID]).strip(), where, as_caption(name),
      name or listing.UNLABELLED, _split(row), start, end)


def as_caption(name: str | None) -> tuple[str, ...]:
  """A class name as a caption, if it holds words."""
  words = '' if name is None or name.isdecimal() else names_lib.spaced(name)
  return (words,) if words else ()
