"""Ranges of the numbers that a user gives, and types that say them.

A type is annotated with its range where a config key, or what one configures,
is declared: `width: Annotated[int, Range(1, 65_536)]`. `builders.sections`
checks values against it, and the reference of configs prints it. Every number
is bounded on both sides, so that one with a few digits too many is refused
before anything of that size is made.
"""
import dataclasses
from typing import Annotated

from walt_jax.core import seeds


@dataclasses.dataclass(frozen=True)
class Range:
  """Bounds of a number, both included.

  Attributes:
    least: The smallest value.
    most: The largest value.
    also: A value outside of the bounds that has a meaning of its own.
    words: How the range is said, where the numbers are not readable.
  """
  least: float
  most: float
  also: float | None = None
  words: str = ''

  def holds(self, value: float) -> bool:
    """Whether a value lies within; no NaN does."""
    return self.least <= value <= self.most or value == self.also

  def __str__(self) -> str:
    if self.words:
      return self.words
    said = f'from {_digits(self.least)} to {_digits(self.most)}'
    return said if self.also is None else f'{said}, or {_digits(self.also)}'


@dataclasses.dataclass(frozen=True)
class Below(Range):
  """Bounds of a number of which the upper one is not included."""

  def holds(self, value: float) -> bool:
    """Whether a value lies within."""
    return super().holds(value) and value != self.most

  def __str__(self) -> str:
    return f'from {_digits(self.least)} to below {_digits(self.most)}'


@dataclasses.dataclass(frozen=True)
class Above(Range):
  """Bounds of a number of which the lower one is not included."""

  def holds(self, value: float) -> bool:
    """Whether a value lies within."""
    return super().holds(value) and value != self.least

  def __str__(self) -> str:
    return f'above {_digits(self.least)} to {_digits(self.most)}'


def _digits(value: float) -> str:
  """Such as 0.5, -1 and 1,000,000."""
  return f'{int(value):,}' if value == int(value) else f'{value:g}'


_MANY = 1_000_000_000

# Whole numbers.
Natural = Annotated[int, Range(0, _MANY)]
Count = Annotated[int, Range(1, _MANY)]
Seed = Annotated[int, Range(0, seeds.MOST, words=seeds.WORDS)]
Rows = Annotated[int, Range(1, 10_000_000)]  # Of a batch.
Frames = Annotated[int, Range(1, 100_000)]
Pixels = Annotated[int, Range(1, 16_384)]  # A side of a frame.
Workers = Annotated[int, Range(0, 1_024)]
Steps = Annotated[int, Range(1, 100_000)]  # Of a sampler.
Width = Annotated[int, Range(1, 65_536)]  # Units, channels, heads.
Layers = Annotated[int, Range(1, 1_024)]
MaybeLayers = Annotated[int, Range(0, 1_024)]
Extent = Annotated[int, Range(1, 1_024)]  # Of a patch, kernel or window.
Devices = Annotated[int, Range(1, 1_000_000)]
DevicesOrRest = Annotated[int, Range(1, 1_000_000, also=-1)]

# Numbers.
Rate = Annotated[float, Range(0, _MANY)]
Positive = Annotated[float, Above(0, _MANY)]
Fraction = Annotated[float, Range(0, 1)]
SomeFraction = Annotated[float, Above(0, 1)]
Decay = Annotated[float, Below(0, 1)]
Weight = Annotated[float, Range(0, 1_000_000)]  # Of a loss, of guidance.
Scale = Annotated[float, Range(-1_000, 1_000)]  # Of guidance.
FramesPerSecond = Annotated[float, Range(0, 10_000)]
