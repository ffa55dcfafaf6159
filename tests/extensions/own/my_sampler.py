"""A sampler: trapezoidal steps, with two passes of the network each."""
import dataclasses

from walt_jax.diffusion import sampler


class Trapezoid:
  """Takes the mean of the estimates at both ends of a step."""

  def __init__(self, path):
    self._path = path

  def rows(self):
    ends = {f'next_{name}': column[1:]
            for name, column in dataclasses.asdict(self._path).items()}
    return sampler.steps_of(self._path) | ends

  def init(self, x):
    return sampler.start(x)

  def step(self, state, row, estimate, noise):
    end = {name: row[f'next_{name}'] for name in ('timestep', 'alpha', 'sigma')}
    shrink = end['sigma'] / row['sigma']
    gain = end['alpha'] - row['alpha'] * shrink
    first = estimate(state.x, row, state.x_0)
    second = estimate(shrink * state.x + gain * first, end, first)
    x_0 = (first + second) / 2
    return sampler.State(shrink * state.x + gain * x_0, x_0)
