"""The rate of a source's clips: what their frames are shown at."""
from collections.abc import Sequence
import dataclasses
import fractions

import numpy as np

from walt_jax.data.sources import mixture
from walt_jax.data.sources import source as source_lib

_LOOKED_AT = 16  # Examples of a source that has no table.
_SAME = 1e-3  # Part of a rate by which clips of one rate may differ.
_DENOMINATOR = 1001  # 30000/1001 frames/s; a table's float32 is near that.


@dataclasses.dataclass(frozen=True)
class ClipRates:
  """Frames a second of clips, by the shares in which they are drawn.

  Attributes:
    median: The one that half of the clips do not exceed.
    lowest: The lowest.
    highest: The highest.
  """
  median: float
  lowest: float
  highest: float

  def __or__(self, other: 'ClipRates') -> 'ClipRates':
    """The span of both, with the median of the first."""
    return ClipRates(self.median, min(self.lowest, other.lowest),
                     max(self.highest, other.highest))

  def __str__(self) -> str:
    return (f'{self.median:.4g}' if self.is_one else
            f'{self.lowest:.4g} to {self.highest:.4g}')

  @property
  def is_one(self) -> bool:
    """Whether all clips play at one rate."""
    return self.highest - self.lowest <= _SAME * self.highest


def of_source(source: source_lib.Source,
              strides: Sequence[int] = (1,)) -> ClipRates | None:
  """The rates of neighbouring frames, or of every stride-th one.

  Without a table of its examples a few of them are read, evenly spread.

  Args:
    source: Source of clips; of a mixture the weights count.
    strides: Distances between frames, of which each clip draws one.

  Returns:
    The rates, or None where no example has any.
  """
  while isinstance(source, mixture.Relabelled):
    source = source.source
  rates, shares = _rates(source)
  known = np.isfinite(rates) & (rates > 0)
  rates, shares = rates[known], shares[known]
  if not len(rates):
    return None
  rates = (rates[:, None] / np.array(strides)).reshape(-1)
  shares = np.repeat(shares, len(strides))
  order = np.argsort(rates)
  below = np.cumsum(shares[order])
  middle = order[int(np.searchsorted(below, below[-1] / 2))]
  return ClipRates(*map(
      _exact, (rates[middle], rates.min(), rates.max())))


def of_rate(rate: float, strides: Sequence[int] = (1,)) -> ClipRates:
  """Rates of clips that were all brought to one before strides."""
  rates = sorted(rate / stride for stride in strides)
  return ClipRates(rates[(len(rates) - 1) // 2], rates[0], rates[-1])


def _rates(source: source_lib.Source) -> tuple[np.ndarray, np.ndarray]:
  """Rate of examples, and the share of batches that each stands for."""
  table = getattr(source, 'index', None)
  if table is not None:
    places, rates = np.arange(len(table)), table['fps'].astype(np.float64)
  else:
    parts = getattr(source, 'ranges', (range(len(source)),))
    places = np.concatenate([_spread(part) for part in parts])
    rates = np.array([float(source[int(place)].get('fps') or 0)
                      for place in places])
  return rates, _shares(source, places)


def _spread(part: range) -> np.ndarray:
  """Places of a few examples, evenly spread."""
  count = min(len(part), _LOOKED_AT)
  if not count:
    return np.zeros(0, np.int64)
  return np.linspace(part.start, part.stop - 1, count).round().astype(np.int64)


def _shares(source: source_lib.Source, places: np.ndarray) -> np.ndarray:
  """Of each example: an equal one of its part's weight."""
  shares = np.ones(len(places))
  for part, weight in zip(getattr(source, 'ranges', ()),
                          getattr(source, 'weights', ()), strict=True):
    inside = (places >= part.start) & (places < part.stop)
    shares[inside] = weight / max(1, inside.sum())
  return shares


def _exact(rate: float) -> float:
  """The rate that a float32 of it stands for, such as 30000/1001."""
  return float(fractions.Fraction(rate).limit_denominator(_DENOMINATOR))
