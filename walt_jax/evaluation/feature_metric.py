"""Scores of features of sets, of clips on disk or of samples."""
import abc
from collections.abc import Sequence
from typing import Any

from walt_jax.evaluation import checkpoint
from walt_jax.evaluation import disk_scores
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric
from walt_jax.evaluation import plan as plan_lib
from walt_jax.metrics import feature_network


class FeatureMetric(plan_lib.FeatureScore):
  """A metric made of a `plan.FeatureScore`; subclasses say which."""
  takes: tuple[metric.Kind, ...] = ('real', 'generated')

  def __init__(self):
    """Loads nothing yet."""
    self._networks: dict[Any, feature_network.FeatureNetwork] = {}

  def evaluate(self, inputs: inputs_lib.Inputs) -> dict[str, Any]:
    """Scores clips on disk, or draws samples and scores them."""
    plan = plan_lib.Plan.of(self, inputs)
    return (checkpoint if inputs.is_drawn else disk_scores).score(plan)

  def network(self, plan: plan_lib.Plan, *, is_video: bool,
              devices: Sequence[Any]) -> feature_network.FeatureNetwork:
    """The network, kept with its programs for the next evaluation."""
    request = plan.request
    key = (request.network, plan.preprocessing, request.batch_size, is_video,
           tuple(devices))
    if key not in self._networks:
      self._networks[key] = self.load_network(
          plan, is_video=is_video, devices=devices)
    return self._networks[key]

  @abc.abstractmethod
  def load_network(self, plan: plan_lib.Plan, *, is_video: bool,
                   devices: Sequence[Any]) -> feature_network.FeatureNetwork:
    """Loads the network that the request or the protocol names."""
