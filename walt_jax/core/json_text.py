"""JSON that others wrote: every fault of a text is a ValueError."""
import json
from typing import Any


def loads(text: str | bytes) -> Any:
  """Reads JSON.

  Raises:
    ValueError: It is none, or nested more deeply than can be read.
  """
  try:
    return json.loads(text)
  except RecursionError:
    raise ValueError('brackets are nested too deeply') from None
