"""JSON that others wrote, or that a crash tore.

Python's parser raises RecursionError on brackets in brackets, and what is
nested a little less ends whoever walks it: here nesting has a bound.
"""
import itertools
import json
from typing import Any

MAX_DEPTH = 64  # Lists and objects in one another.


def loads(text: str | bytes) -> Any:
  """The value of a JSON text.

  Raises:
    ValueError: It is not JSON, or nested too deeply.
  """
  try:
    value = json.loads(text)
  except RecursionError:
    value = None
    deep = True
  else:
    deep = _openings(text) > MAX_DEPTH and _is_deep(value)
  if deep:
    raise ValueError(f'brackets are nested too deeply, more than {MAX_DEPTH}')
  return value


def _openings(text: str | bytes) -> int:
  """At least as many as levels."""
  if isinstance(text, str):
    return text.count('[') + text.count('{')
  return text.count(b'[') + text.count(b'{')


def _is_deep(value: Any) -> bool:
  level = [value]
  for _ in range(MAX_DEPTH):
    level = list(itertools.chain.from_iterable(
        item.values() if isinstance(item, dict) else item
        for item in level if isinstance(item, (dict, list))))
    if not level:
      return False
  return any(isinstance(item, (dict, list)) for item in level)
