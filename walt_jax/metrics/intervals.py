"""Confidence intervals of proportions."""
import math

_Z_95 = 1.959963984540054  # Normal quantile of 97.5%.


def wilson(successes: int, trials: int) -> tuple[float, float]:
  """Wilson's 95% interval of a proportion (Wilson, 1927)."""
  if not 0 <= successes <= trials or trials < 1:
    raise ValueError(f'{successes} successes in {trials} trials.')
  share, z2 = successes / trials, _Z_95 ** 2
  centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
  half = _Z_95 / (1 + z2 / trials) * math.sqrt(
      share * (1 - share) / trials + z2 / (4 * trials ** 2))
  return max(0.0, centre - half), min(1.0, centre + half)


def accuracy(successes: int, trials: int) -> dict[str, float | int]:
  """A proportion with its interval, as results store it."""
  low, high = wilson(successes, trials)
  return dict(accuracy=successes / trials, low=low, high=high,
              correct=successes, total=trials)
