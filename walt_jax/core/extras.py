"""Optional packages: what to say where one is missing."""
from collections.abc import Iterator
import contextlib

from walt_jax.core import errors


def command(extra: str) -> str:
  """How to install an extra of `setup.py`.

  The package is on no index: its own folder is what is installed.
  """
  return f"pip install -e '.[{extra}]' in the repository"


@contextlib.contextmanager
def needed(extra: str, who: str, package: str) -> Iterator[None]:
  """Where the imports of an optional package stand.

  Args:
    extra: The extra of `setup.py` that installs it.
    who: What needs it, for the message.
    package: Its name, for people.

  Raises:
    UserError: It is not installed.
  """
  try:
    yield
  except ImportError as error:
    raise errors.UserError(
        f'{who} needs {package}, which is not installed ({error}); install it '
        f'by {command(extra)}') from error
