"""What a sampler is: the way from noise to latents, one step at a time."""
from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.diffusion import schedules

# The numbers of one step; float32 scalars by name.
Row = Mapping[str, jax.Array]
# (x, where, old x_0) -> x_0: one pass of the network, guided, as an estimate
# of the clean latents. `where` holds `timestep`, `alpha` and `sigma` of x; the
# old estimate is what a self-conditioned network sees.
EstimateFn = Callable[[jax.Array, Row, jax.Array], jax.Array]
# () -> fresh standard normal noise in the shape of x.
NoiseFn = Callable[[], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """What goes from step to step.

  Attributes:
    x: Noisy latents [B, 1+t, h, w, c].
    x_0: The last estimate of the clean latents, zeros before the first.
    history: Whatever else a sampler remembers, a pytree of arrays.
  """
  x: jax.Array
  x_0: jax.Array
  history: Any = ()


class Sampler(Protocol):
  """A sampler on one path; a class of the user's own is called with the path.

  `rows` is computed once, on the host; `init` and `step` are traced. A step
  may make several passes of the network (Heun) and remember old estimates
  (UniPC).
  """

  def __init__(self, path: schedules.Path) -> None:
    ...

  def rows(self) -> dict[str, np.ndarray]:
    """Arrays [num_steps], noisiest first: what each step is to know.

    `timestep`, `alpha` and `sigma` of its x are among them.
    """

  def init(self, x: jax.Array) -> State:
    """The state before the first step, for noise x [B, 1+t, h, w, c]."""

  def step(self, state: State, row: Row, estimate: EstimateFn,
           noise: NoiseFn) -> State:
    """One step.

    Args:
      state: State before the step.
      row: This step's entry of each of the `rows`.
      estimate: A pass of the network; call it once or more.
      noise: Draws noise; called again, it gives the same.
    """


def start(x: jax.Array) -> State:
  """The state of a sampler that remembers nothing but its last estimate."""
  return State(x, jnp.zeros_like(x))


def steps_of(path: schedules.Path) -> dict[str, np.ndarray]:
  """`timestep`, `alpha` and `sigma` at which each step begins."""
  return {name: column[:-1]
          for name, column in dataclasses.asdict(path).items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
  """A sampler that is linear in all that a step knows.

  x <- x_coef x + x_0_coef x_0 + old_coef (the previous x_0) + noise_coef z,
  with one pass a step. Coefficients are float64 [num_steps].

  Attributes:
    path: Where it goes along.
    x_coef: Coefficient of the latents.
    x_0_coef: Coefficient of the new estimate.
    old_coef: Coefficient of the estimate before it.
    noise_coef: Coefficient of fresh noise.
  """
  path: schedules.Path
  x_coef: np.ndarray
  x_0_coef: np.ndarray
  old_coef: np.ndarray
  noise_coef: np.ndarray

  def rows(self) -> dict[str, np.ndarray]:
    """Coefficients and places, as `Sampler.rows`."""
    return steps_of(self.path) | dict(
        x_coef=self.x_coef, x_0_coef=self.x_0_coef, old_coef=self.old_coef,
        noise_coef=self.noise_coef)

  def init(self, x: jax.Array) -> State:
    """As `Sampler.init`."""
    return start(x)

  def step(self, state: State, row: Row, estimate: EstimateFn,
           noise: NoiseFn) -> State:
    """As `Sampler.step`."""
    x_0 = estimate(state.x, row, state.x_0)
    x = (row['x_coef'] * state.x + row['x_0_coef'] * x_0
         + row['old_coef'] * state.x_0)
    if self.noise_coef.any():
      x = x + row['noise_coef'] * noise()
    return State(x, x_0)
