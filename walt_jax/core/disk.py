"""What a disk refuses, in words: it is full, read-only or not permitted."""
import errno
import os

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM,
            errno.EFBIG)
_FIXES = {
    errno.ENOSPC: 'make room', errno.EDQUOT: 'make room',
    errno.EFBIG: 'raise the limit of file sizes',
    errno.EROFS: 'choose another folder',
}


def refusal(error: BaseException) -> str | None:
  """One line about a disk's refusal, or None if it is something else.

  Args:
    error: What was raised; its causes are looked at too. Libraries in C++
      tell of the disk in their text alone.
  """
  seen: set[int] = set()
  found: BaseException | None = error
  while found is not None and id(found) not in seen:
    seen.add(id(found))
    number, where = _reason(found)
    if number is not None:
      fix = _FIXES.get(number, 'give this user the permission')
      return (f'{where}{os.strerror(number)}; {fix}, then run the same command '
              'again')
    found = found.__cause__ or found.__context__
  return None


def _reason(error: BaseException) -> tuple[int | None, str]:
  if isinstance(error, OSError):
    if error.errno not in _NUMBERS:
      return None, ''
    name = error.filename
    return error.errno, '' if name is None else f'{os.fsdecode(name)!r}: '
  text = str(error)
  for number in _NUMBERS:
    if number != errno.EPERM and os.strerror(number) in text:
      return number, ''
  return None, ''
