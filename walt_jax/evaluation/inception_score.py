"""The Inception Score of images (InceptionV3) or videos (C3D)."""
from collections.abc import Sequence
from typing import Any

from walt_jax.core import errors
from walt_jax.evaluation import feature_metric
from walt_jax.evaluation import fid
from walt_jax.evaluation import metric
from walt_jax.evaluation import plan as plan_lib
from walt_jax.metrics import feature_network
from walt_jax.metrics import image_features
from walt_jax.metrics import scores


class InceptionScore(feature_metric.FeatureMetric):
  """See `metrics.inception_score`."""
  takes: tuple[metric.Kind, ...] = ('generated',)
  name = 'is'
  beside: tuple[str, ...] = ()
  uses_real = False

  def load_network(self, plan: plan_lib.Plan, *, is_video: bool,
                   devices: Sequence[Any]) -> feature_network.FeatureNetwork:
    """Loads C3D for videos, InceptionV3 for images."""
    if not is_video:
      return fid.load_network(plan, devices)
    if not plan.network_files:
      raise errors.UserError(
          'the Inception Score of videos needs the weights of C3D; give '
          '--network WEIGHTS[,MEAN]')
    return image_features.load_c3d(
        *plan.network_files, devices=devices,
        batch_size=plan_lib.batch_size(plan.request))

  def keep(self, options: scores.Options) -> tuple[str, ...]:
    """The logits of every clip."""
    del options
    return (feature_network.LOGITS,)

  def result(self, name: str, real: Any, generated: Any,
             options: scores.Options) -> dict[str, Any]:
    """The score of each set's logits."""
    del real
    return scores.inception_result(name, generated, options)
