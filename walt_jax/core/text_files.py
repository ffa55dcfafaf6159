"""Text that others wrote: UTF-8 or UTF-16, with a byte order mark or not."""
import codecs
from collections.abc import Iterator
import contextlib
import pathlib
from typing import TextIO

from walt_jax.core import errors

# Marks of UTF-32 begin with those of UTF-16: they come first.
_MARKS = ((codecs.BOM_UTF32_LE, 'utf-32'), (codecs.BOM_UTF32_BE, 'utf-32'),
          (codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF16_LE, 'utf-16'),
          (codecs.BOM_UTF16_BE, 'utf-16'))


def encoding_of(start: bytes) -> str:
  """The encoding of a text by its first bytes; UTF-8 where none is marked."""
  return next((name for mark, name in _MARKS if start.startswith(mark)),
              'utf-8')


def decode(data: bytes) -> str:
  """A whole text.

  Raises:
    ValueError: It is not in the encoding that it begins like.
  """
  text = data.decode(encoding_of(data[:4]))
  if '\0' in text:
    raise ValueError('it holds NUL characters: it is UTF-16 without its mark, '
                     'or no text')
  return text


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[TextIO]:
  """Opens a text; ends of lines are kept as they are.

  Raises:
    errors.UserError: It cannot be read, or is not in the encoding that it
      begins like.
  """
  try:
    with path.open('rb') as file:
      encoding = encoding_of(file.read(4))
    with path.open(encoding=encoding, newline='') as text:
      yield text
  except OSError as error:
    raise errors.UserError(
        f'cannot read {str(path)!r}: {error.strerror}') from error
  except UnicodeError as error:
    raise errors.UserError(
        f'cannot read {str(path)!r}: {error}; save it as UTF-8') from error
