"""How long a step would take if hardware did what its figures say."""
from collections.abc import Sequence
import dataclasses

from walt_jax.planning import collectives as collectives_lib
from walt_jax.planning import topology

ASSUMPTIONS = (
    'arithmetic runs at the published bfloat16 peak; element-wise work and '
    'memory traffic are not counted',
    'a collective among all chips uses both links of every torus axis, any '
    'other both links of one axis, at the full rate of the links; what goes '
    "between slices has the chip's share of its host's network",
    'the estimate overlaps collectives with arithmetic; the slow estimate '
    'does not',
)


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Estimates for one train step.

  Attributes:
    compute_seconds: Time of all arithmetic, recomputation included.
    communication_seconds: Time of all collectives, one after the other.
    step_seconds: The longer of the two.
    slow_step_seconds: Their sum.
    mfu: Model FLOPs (no recomputation) over peak in `step_seconds`.
    slow_mfu: The same in `slow_step_seconds`.
  """
  compute_seconds: float
  communication_seconds: float
  step_seconds: float
  slow_step_seconds: float
  mfu: float
  slow_mfu: float


def roofline(
    chip: topology.Chip, num_chips: int, *, model_flops: int,
    executed_flops: int, moved: Sequence[collectives_lib.Collective],
    num_slices: int = 1,
) -> Roofline:
  """Estimates a step.

  Args:
    chip: Chip of the slice.
    num_chips: Number of chips of all slices.
    model_flops: FLOPs that the model needs for the step, whole slice.
    executed_flops: Those with recomputation.
    moved: Collectives of one device.
    num_slices: Number of slices.
  """
  peak = chip.peak_flops * num_chips
  compute = executed_flops / peak
  communication = sum(
      one.count * transfer_bytes(one) / collective_bandwidth(
          chip, num_chips // num_slices, one) for one in moved)
  fast, slow = max(compute, communication), compute + communication
  mfu, slow_mfu = (model_flops / (peak * seconds) if model_flops else 0.
                   for seconds in (fast, slow))
  return Roofline(compute, communication, fast, slow, mfu, slow_mfu)


def transfer_bytes(one: collectives_lib.Collective) -> float:
  """Bytes that each device sends in a ring for one call."""
  if one.kind in ('collective-permute', 'collective-broadcast'):
    return one.bytes
  size = max(one.group_size, 1)
  rounds = 2 if one.kind == 'all-reduce' else 1
  return rounds * one.bytes * (size - 1) / size


def collective_bandwidth(chip: topology.Chip, num_chips: int,
                         one: collectives_lib.Collective) -> float:
  """Bytes/s that a chip sends in a collective, of `num_chips` in a slice."""
  if one.between_slices:
    return chip.network_bandwidth
  everyone = one.group_size >= num_chips
  return 2 * chip.link_bandwidth * (chip.torus_axes if everyone else 1)
