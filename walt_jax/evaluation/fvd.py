"""FVD: the Frechet distance of I3D features of videos."""
from collections.abc import Sequence
from typing import Any

from walt_jax.evaluation import feature_metric
from walt_jax.evaluation import plan as plan_lib
from walt_jax.metrics import feature_network
from walt_jax.metrics import scores
from walt_jax.metrics import video_features


class FVD(feature_metric.FeatureMetric):
  """See `metrics.fvd`."""
  name = 'fvd'
  beside = ('kvd', 'precision_recall')
  uses_real = True

  def load_network(self, plan: plan_lib.Plan, *, is_video: bool,
                   devices: Sequence[Any]) -> feature_network.FeatureNetwork:
    """Loads I3D."""
    del is_video  # Images have too few frames, which it says itself.
    request = plan.request
    return video_features.load_network(
        request.network, preprocessing=(
            plan.preprocessing or video_features.PREPROCESSING),
        **plan_lib.video_form(request, devices))

  def keep(self, options: scores.Options) -> tuple[str, ...]:
    """Features, for scores beside."""
    return options.keep()

  def result(self, name: str, real: Any, generated: Any,
             options: scores.Options) -> dict[str, Any]:
    """The distance of each set to the real one."""
    return scores.frechet_result(name, real, generated, options)
