"""Bootstrap intervals of scores of two sets of features."""
from collections.abc import Callable
import dataclasses

import numpy as np

from walt_jax.core import progress

_Z_95 = 1.959963984540054  # Normal quantile of 97.5%.


@dataclasses.dataclass(frozen=True)
class Interval:
  """Attributes:

    low: Lower end of the 95% interval.
    high: Upper end.
    std: Standard deviation of the score over the resamples.
    resamples: Number of resamples drawn.
  """
  low: float
  high: float
  std: float
  resamples: int


def interval(
    score: Callable[[np.ndarray, np.ndarray], float], real: np.ndarray,
    generated: np.ndarray, *, resamples: int = 100, seed: int = 0
) -> Interval:
  """95% interval of score(real, generated) around its value.

  Both sets [N, D] and [M, D] are drawn anew with replacement. A resample
  repeats samples, which makes a Frechet distance larger (it behaves as a
  smaller set): the quantiles of the resamples lie above the score. The
  interval is therefore the score +- 1.96 standard deviations.

  Raises:
    ValueError: Fewer than two resamples.
  """
  if resamples < 2:
    raise ValueError(f'{resamples} resamples have no spread; take 2 or more.')
  rng = np.random.default_rng(seed)
  values = []
  for _ in progress.track(range(resamples), 'bootstrap', 'resample'):
    rows = rng.integers(0, len(real), len(real))
    others = rng.integers(0, len(generated), len(generated))
    values.append(score(real[rows], generated[others]))
  centre, std = score(real, generated), float(np.std(values, ddof=1))
  return Interval(centre - _Z_95 * std, centre + _Z_95 * std, std, resamples)
