"""A part of the page that cannot be made costs one card, not the page."""
from collections.abc import Callable
import html

from walt_jax.core import errors


def or_problem(name: str, make: Callable[[], str]) -> str:
  """What `make` returns, or a card that says why it did not.

  Args:
    name: What the part shows, for the card.
    make: Makes the part; it reads files that may hold anything.
  """
  try:
    return make()
  except Exception as error:  # pylint: disable=broad-except
    return (f'<p class="card missing">{html.escape(name)} cannot be shown: '
            f'{html.escape(errors.reason(error))}</p>')
