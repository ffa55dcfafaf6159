"""The one exception that means "the user can fix this"."""
import reprlib
from typing import Any


class UserError(Exception):
  """A wrong flag, config key, file or shape.

  The command line prints it as `walt: error: <message>` on one line and ends
  with exit code 2. The message names the offending value and the fix.
  """


class _Short(reprlib.Repr):
  """Values as messages show them; what is long or deep is cut."""

  def __init__(self):
    super().__init__()
    self.maxlevel, self.maxstring, self.maxother, self.maxlong = 6, 200, 200, 60
    self.maxtuple = self.maxlist = self.maxdict = self.maxset = 20

  def repr_int(self, x, level):
    # Python refuses to write down some thousands of digits.
    return (super().repr_int(x, level) if x.bit_length() < 8_192
            else f'a number of {x.bit_length()} bits')


def short(value: Any) -> str:
  """A value as `repr` gives it, cut where it is longer than a line."""
  return _Short().repr(value)


def words(error: BaseException) -> str:
  """What an exception says, on one line of bounded length."""
  said = ' '.join(str(error).split())
  return said if len(said) <= 1_000 else f'{said[:1_000]}..'


def reason(error: BaseException) -> str:
  """Kind and words of an exception that other code raised."""
  said = words(error)
  return f'{type(error).__name__}: {said}' if said else type(error).__name__
