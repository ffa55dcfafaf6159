"""Files that a command is to write, looked at before its work."""
import os

from walt_jax.core import errors
from walt_jax.core import paths


def check_file(flag: str, path: str | None) -> None:
  """Refuses a file that could not be written when the work is done.

  Args:
    flag: The flag that names it, for the message.
    path: What it was given; nothing is checked where it is empty, or a URL,
      whose bucket is asked for with all others.

  Raises:
    UserError: If its folder is not there or not writable, or it is a folder.
  """
  if not path or paths.is_remote(path):
    return
  file = paths.path(path).absolute()
  if not file.parent.is_dir():
    raise errors.UserError(f'{flag} {path}: no such folder; make it first')
  if file.is_dir():
    raise errors.UserError(f'{flag} {path} is a folder; give a file in it')
  if not os.access(file.parent, os.W_OK):
    raise errors.UserError(
        f'{flag} {path}: its folder is not writable; choose another')
