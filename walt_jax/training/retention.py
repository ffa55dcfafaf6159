"""Which checkpoints of a run stay."""
from collections.abc import Collection, Mapping, Sequence
import dataclasses
import math
from typing import Any

import orbax.checkpoint as ocp


@dataclasses.dataclass(frozen=True)
class Keep:
  """Which checkpoints stay; any of these reasons is enough.

  Attributes:
    newest: How many of the newest.
    every: Those at multiples of this step; 0: none.
    best: How many of those with the best metric; 0: none.
    metric: Name of the metric, as in `metrics.jsonl`.
    mode: Whether the best value is the smallest ('min') or the largest.
  """
  newest: int = 2
  every: int = 0
  best: int = 0
  metric: str = ''
  mode: str = 'min'

  def value(self, metrics: Mapping[str, float]) -> float:
    """A checkpoint's rank: of two, the larger is better."""
    value = metrics.get(self.metric, math.nan)
    if math.isnan(value):
      return -math.inf
    return -value if self.mode == 'min' else value

  def options(self, damaged: Collection[int]) -> ocp.CheckpointManagerOptions:
    """The same for Orbax.

    Args:
      damaged: Steps that do not count, and stay; asked at every save.
    """
    managers = ocp.checkpoint_managers
    policies: list[Any] = [managers.LatestN(self.newest)]
    if self.every:
      policies.append(managers.EveryNSteps(self.every))
    if self.best:
      policies.append(managers.BestN(
          get_metric_fn=self.value, n=self.best,
          keep_checkpoints_without_metrics=False))
    return ocp.CheckpointManagerOptions(
        preservation_policy=_SoundOnes(
            managers.AnyPreservationPolicy(policies), damaged),
        # Orbax writes metrics down, and reads them, for this function alone.
        best_fn=self.value if self.best else None,
        cleanup_tmp_directories=True, enable_async_checkpointing=True)


@dataclasses.dataclass(frozen=True)
class _SoundOnes:
  """A policy of Orbax over the checkpoints that are not damaged.

  Attributes:
    policy: The policy.
    damaged: Steps of damaged checkpoints.
  """
  policy: Any
  damaged: Collection[int]

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any
                      ) -> list[bool]:
    """Whether each checkpoint stays."""
    sound = [one for one in checkpoints if one.step not in self.damaged]
    stays = self.policy.should_preserve(sound, context=context)
    kept = {one.step: stay for one, stay in zip(sound, stays, strict=True)}
    return [kept.get(one.step, True) for one in checkpoints]
