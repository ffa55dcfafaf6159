"""Classifier-free guidance with several conditions at once."""
from collections.abc import Mapping
import dataclasses
import math

import jax
import jax.numpy as jnp

from walt_jax.core import conditions
from walt_jax.core import types
from walt_jax.diffusion import network as network_lib

SCHEDULES = ('constant', 'power_cosine', 'interval')


@dataclasses.dataclass(frozen=True)
class Guidance:
  """How strongly each condition is followed.

  The guided output is

    full + sum_k (scale_k - 1) (full - without_k)

  where `without_k` sees every condition but k: for one condition the usual
  null + scale (full - null), and scale 1 costs no pass of the network.

  Attributes:
    label: Scale of the class label: 1 follows it without guidance, 0 ignores
      it.
    text: Scale of the text, likewise.
    frames: Scale of the given latent frames, likewise.
    own: Pairs (name, scale) of conditions of your own.
    schedule: How scales depend on the timestep: 'constant'; 'power_cosine'
      grows from 1 at pure noise to the scale at clean data (MDT, 2303.14389);
      'interval' applies the scale to timesteps in `interval` and 1 elsewhere
      (2404.07724).
    power: Exponent of 'power_cosine'.
    interval: Lowest and highest guided timestep of 'interval'.
    null_label: The label id that means none (`num_classes`); needed to guide
      by label.
  """
  label: float = 1.0
  text: float = 1.0
  frames: float = 1.0
  schedule: str = 'constant'
  power: float = 4.0
  interval: tuple[float, float] = (0.0, 1.0)
  null_label: int | None = None
  own: tuple[tuple[str, float], ...] = ()

  def __post_init__(self):
    if self.schedule not in SCHEDULES:
      raise ValueError(f'Unknown guidance schedule {self.schedule!r}; '
                       f'choose of {SCHEDULES}.')
    low, high = self.interval
    if not 0 <= low <= high <= 1:
      raise ValueError(f'The guidance interval must lie in [0, 1], not '
                       f'{self.interval}.')
    for name, scale in self.scales.items():
      if not math.isfinite(scale):
        raise ValueError(
            f'The {name} guidance scale must be finite, not {scale}.')

  @property
  def scales(self) -> dict[str, float]:
    """The scales that change anything, by condition."""
    named = {name: getattr(self, name)
             for name in conditions.CONDITIONS} | dict(self.own)
    return {name: scale for name, scale in named.items() if scale != 1}

  @property
  def num_passes(self) -> int:
    """Rows that the network sees of each row, if all conditions are given."""
    return 1 + len(self.scales)

  @property
  def shape(self) -> dict[str, float | str | tuple[float, float]]:
    """How the scales depend on the timestep; {} where they do not."""
    if self.schedule == 'power_cosine':
      return dict(schedule=self.schedule, power=self.power)
    if self.schedule == 'interval':
      return dict(schedule=self.schedule, interval=self.interval)
    return {}

  def with_scales(self, scales: Mapping[str, float]) -> 'Guidance':
    """These scales alone, of conditions by name, over the same schedule."""
    own = tuple((name, scale) for name, scale in scales.items()
                if name not in conditions.CONDITIONS)
    return dataclasses.replace(
        self, label=scales.get('label', 1.0), text=scales.get('text', 1.0),
        frames=scales.get('frames', 1.0), own=own)

  def strength(self, timestep: jax.Array) -> jax.Array:
    """What multiplies (scale - 1) at `timestep`, in [0, 1]."""
    timestep = jnp.asarray(timestep, jnp.float32)
    if self.schedule == 'power_cosine':
      return (1 - jnp.cos((1 - timestep) ** self.power * jnp.pi)) / 2
    if self.schedule == 'interval':
      low, high = self.interval
      inside = (timestep >= low) & (timestep <= high)
      return inside.astype(jnp.float32)
    return jnp.ones_like(timestep)


def of(scales: Mapping[str, float]) -> Guidance:
  """Guidance by scales of conditions, built in or of the user's own."""
  return Guidance().with_scales(scales)


def guided(network: network_lib.Network, guidance: Guidance
           ) -> network_lib.Network:
  """Wraps `network` so that its output is guided.

  All passes of a step run as one batch, each row's variants next to each
  other, so that a batch sharded over devices stays where it is. A step at
  which the schedule has no strength takes one pass.
  """
  if not guidance.scales:
    return network

  def bind(conditioning: types.Conditioning, num_rows: int
           ) -> network_lib.EvaluateFn:
    scales = {name: scale for name, scale in guidance.scales.items()
              if conditions.values_of(conditioning, name) is not None}
    if not scales:
      return network(conditioning, num_rows)
    conditioning = conditions.with_masks(conditioning)
    variants = [conditioning] + [
        conditions.null(conditioning, name, null_label=guidance.null_label)
        for name in scales]
    num = len(variants)
    every = network(jax.tree.map(
        lambda *leaves: _interleave(jnp.stack(leaves, axis=1)), *variants),
                    num_rows * num)

    def evaluate(x_t, timestep, self_cond):
      outputs = every(_repeat(x_t, num), timestep,
                      None if self_cond is None else _repeat(self_cond, num))
      outputs = outputs.reshape(-1, num, *outputs.shape[1:])
      full = outputs[:, 0]
      strength = guidance.strength(timestep)
      out = full
      for index, scale in enumerate(scales.values(), start=1):
        out = out + strength * (scale - 1) * (full - outputs[:, index])
      return out

    if guidance.schedule == 'constant':
      return evaluate
    alone = network(conditioning, num_rows)
    return lambda x_t, timestep, self_cond: jax.lax.cond(
        guidance.strength(timestep) > 0, evaluate, alone, x_t, timestep,
        self_cond)

  return bind


def _interleave(x: jax.Array) -> jax.Array:
  return x.reshape(-1, *x.shape[2:])


def _repeat(x: jax.Array, num: int) -> jax.Array:
  return _interleave(
      jnp.broadcast_to(x[:, None], (x.shape[0], num, *x.shape[1:])))
