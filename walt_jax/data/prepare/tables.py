"""Rows of tables: .csv, .tsv, .jsonl and .parquet."""
from collections.abc import Iterator
import pathlib
from typing import Any

from walt_jax.core import errors
from walt_jax.core import extras
from walt_jax.core import json_text
from walt_jax.core import text_files
from walt_jax.data.prepare import columns
from walt_jax.data.prepare import csv_tables
from walt_jax.data.prepare import listing

SUFFIXES = ('.jsonl', '.csv', '.tsv', '.parquet')


def rows(path: pathlib.Path, where: str, bad: list[listing.Rejection]
         ) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, cells by normalised column name) of a table.

  Args:
    path: The table; its suffix decides the kind.
    where: Its name in messages.
    bad: Gets lines that cannot be read.

  Raises:
    errors.UserError: The file cannot be read, or is no table.
  """
  suffix = path.suffix.lower()
  if suffix == '.parquet':
    yield from enumerate(map(_normalised, _parquet(path, where)), start=1)
  elif suffix in ('.csv', '.tsv'):
    with text_files.opened(path) as file:
      yield from csv_tables.read(file, where, bad)
  elif suffix == '.jsonl':
    yield from _json_lines(path, where, bad)
  else:
    raise errors.UserError(
        f'annotations {str(path)!r} are not {", ".join(SUFFIXES)}, nor a '
        'folder of UCF-101 lists')


def _is_known(name: str) -> bool:
  return columns.role_of(name) is not None or name == columns.KINETICS_ID


def _normalised(row: dict[str, Any]) -> dict[str, Any]:
  return {columns.normalised(name): value for name, value in row.items()}


def _json_lines(path: pathlib.Path, where: str,
                bad: list[listing.Rejection]
                ) -> Iterator[tuple[int, dict[str, Any]]]:
  with text_files.opened(path) as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        row = json_text.loads(line)
        if not isinstance(row, dict):
          raise ValueError('not an object {"file": .., "caption": ..}')
      except ValueError as error:
        bad.append(listing.Rejection(f'{where}:{number}',
                                     f'cannot use this line: {error}'))
        continue
      yield number, _normalised(row)


def _parquet(path: pathlib.Path, where: str) -> Iterator[dict[str, Any]]:
  with extras.needed('data', f'reading {path.name}', 'PyArrow'):
    import pyarrow
    from pyarrow import parquet
  try:
    file = parquet.ParquetFile(path)
    names = file.schema_arrow.names
    columns.check_names(list(map(columns.normalised, names)), where)
    known = [name for name in names if _is_known(columns.normalised(name))]
    unknown = dict.fromkeys(names)  # Not read: they may hold the clips.
    for group in file.iter_batches(columns=known):
      for row in group.to_pylist():
        yield unknown | row
  except errors.UserError:
    raise
  # Where a file is damaged, its texts and times need not be any.
  except (pyarrow.ArrowException, OSError, ValueError, TypeError,
          OverflowError) as error:
    raise errors.UserError(
        f'cannot read {str(path)!r}: {errors.words(error)}') from error
