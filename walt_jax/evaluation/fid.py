"""FID: the Frechet distance of InceptionV3 features of images."""
from collections.abc import Sequence
from typing import Any
import warnings

from walt_jax.core import errors
from walt_jax.evaluation import feature_metric
from walt_jax.evaluation import plan as plan_lib
from walt_jax.metrics import feature_network
from walt_jax.metrics import image_features
from walt_jax.metrics import scores


def load_network(plan: plan_lib.Plan, devices: Sequence[Any]
                 ) -> feature_network.FeatureNetwork:
  """Loads InceptionV3, or says that it is not there and what stands in."""
  form: dict[str, Any] = dict(
      devices=devices, batch_size=plan_lib.batch_size(plan.request))
  name = plan.network_files[0] if plan.network_files else ''
  if name in image_features.STAND_INS:
    return image_features.load_efficientnet(name=name, **form)
  if name:
    return image_features.load_inception(
        name,
        preprocessing=plan.preprocessing or image_features.TF1_299, **form)
  if plan.protocol.network:
    raise errors.UserError(
        f'protocol {plan.protocol.name} is defined by '
        f'{plan.protocol.network}; give its weights with --network FILE')
  warnings.warn(
      'no InceptionV3 weights (--network): scored with EfficientNet-Lite0 '
      'and called so; it is no FID or IS and stands beside no published '
      'number (--network efficientnet-lite2 for a model whose tokenizer was '
      'trained with Lite0)', stacklevel=2)
  return image_features.load_efficientnet(**form)


class FID(feature_metric.FeatureMetric):
  """See `metrics.frechet`."""
  name = 'fid'
  beside = tuple(scores.BESIDE)
  uses_real = True

  def load_network(self, plan: plan_lib.Plan, *, is_video: bool,
                   devices: Sequence[Any]) -> feature_network.FeatureNetwork:
    """Loads InceptionV3 or what stands in for it."""
    del is_video  # Single frames are scored.
    return load_network(plan, devices)

  def keep(self, options: scores.Options) -> tuple[str, ...]:
    """Outputs that scores beside need."""
    return options.keep()

  def result(self, name: str, real: Any, generated: Any,
             options: scores.Options) -> dict[str, Any]:
    """The distance of each set to the real one."""
    return scores.frechet_result(name, real, generated, options)
