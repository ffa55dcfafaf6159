"""Scores of features of sets, of clips on disk or of samples."""
from typing import Any

from walt_jax.evaluation import checkpoint
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric
from walt_jax.evaluation import plan as plan_lib
from walt_jax.evaluation import sets


class FeatureMetric(plan_lib.FeatureScore):
  """A metric made of a `plan.FeatureScore`; subclasses say which."""
  takes: tuple[metric.Kind, ...] = ('real', 'generated')

  def evaluate(self, inputs: inputs_lib.Inputs) -> dict[str, Any]:
    """Scores clips on disk, or draws samples and scores them."""
    plan = plan_lib.Plan.of(self, inputs)
    return (checkpoint if inputs.is_drawn else sets).score(plan)
