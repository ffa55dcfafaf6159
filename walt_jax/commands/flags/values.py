"""Values of command line flags: lists by stage, guidance, frame ranges.

Each parser raises `argparse.ArgumentTypeError`, which the command line prints
as one line with the flag's name.
"""
import argparse
from collections.abc import Callable
import math
from typing import TypeVar

from walt_jax.core import profile_request
from walt_jax.core import seeds

Value = TypeVar('Value')
# Of `parallel.mesh`, without its imports.
_AXES = ('data', 'fsdp', 'tensor', 'context')


def positive_int(text: str) -> int:
  """Parses a whole number >= 1."""
  return _whole(text, 1, words='of 1 or more')


def natural(text: str) -> int:
  """Parses a whole number >= 0."""
  return _whole(text, 0, words='of 0 or more')


def seed(text: str) -> int:
  """Parses a random seed, a whole number of 64 bits."""
  return _whole(text, 0, seeds.MOST, words=seeds.WORDS)


def _whole(text: str, least: int, most: float = math.inf, *, words: str) -> int:
  try:
    value = int(text)
  except ValueError:
    value = least - 1
  if not least <= value <= most:
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number {words}')
  return value


def number(text: str) -> float:
  """Parses a finite number."""
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise argparse.ArgumentTypeError(f'{text!r} is not a number')
  return value


def positive(text: str) -> float:
  """Parses a finite number > 0."""
  value = number(text)
  if value <= 0:
    raise argparse.ArgumentTypeError(f'{text!r} is not above 0')
  return value


def noise_level(text: str) -> float:
  """Parses a noise level, in [0, 1]."""
  value = number(text)
  if not 0 <= value <= 1:
    raise argparse.ArgumentTypeError(f'noise level {text!r} is not in [0, 1]')
  return value


def mesh(text: str) -> dict[str, int]:
  """Parses sizes of axes of a mesh, such as 'fsdp=8,tensor=2'."""
  sizes: dict[str, int] = {}
  for item in text.split(','):
    name, _, size = item.strip().partition('=')
    if name not in _AXES or name in sizes:
      raise argparse.ArgumentTypeError(
          f'{text!r} is no list of sizes, each once, of the axes '
          f'{", ".join(_AXES)}, such as fsdp=8,tensor=2')
    sizes[name] = -1 if size == '-1' else positive_int(size)
  return sizes


def separated(parse: Callable[[str], Value],
              separator: str = ',') -> Callable[[str], list[Value]]:
  """A parser of lists such as '50,25', one value a stage."""

  def parse_list(text: str) -> list[Value]:
    items = [item.strip() for item in text.split(separator)]
    if '' in items:
      raise argparse.ArgumentTypeError(
          f'{text!r} has an empty item between {separator!r}')
    return [parse(item) for item in items]

  return parse_list


def guidance(text: str) -> dict[str, float] | None:
  """Parses one stage's 'text=7.5,label=1,frames=2'.

  'none' is {}, and 'config' is None: as the stage's config says.
  """
  if text.strip() == 'config':
    return None
  if text.strip() == 'none':
    return {}
  scales = {}
  for item in text.split(','):
    name, equals, value = item.partition('=')
    name = name.strip()
    if not equals or not name.isidentifier():
      raise argparse.ArgumentTypeError(
          f'{item!r} is not CONDITION=SCALE, such as text=7.5')
    if name in scales:
      raise argparse.ArgumentTypeError(f'{name} is given twice in {text!r}')
    scales[name] = number(value)
  return scales


def condition(text: str) -> tuple[str, tuple[float, ...]]:
  """Parses 'NAME=NUMBER[,NUMBER..]', a condition of the user's own."""
  name, equals, numbers = text.partition('=')
  if not equals or not name.isidentifier():
    raise argparse.ArgumentTypeError(
        f'{text!r} is not NAME=NUMBER, or NAME=NUMBER,NUMBER for more')
  return name, tuple(number(item) for item in numbers.split(','))


def profile(text: str) -> profile_request.Request:
  """Parses 'FIRST:LAST[@PROCESS]', steps to trace and where."""
  try:
    return profile_request.parse(text)
  except ValueError as error:
    raise argparse.ArgumentTypeError(str(error)) from error


def process(text: str) -> tuple[int, int]:
  """Parses 'I/N', process I of N, from 0."""
  number, slash, count = text.partition('/')
  if slash and number.isdigit() and count.isdigit() and (
      int(number) < int(count)):
    return int(number), int(count)
  raise argparse.ArgumentTypeError(f'{text!r} is not I/N with I < N')
