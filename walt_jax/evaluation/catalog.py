"""Metrics by name."""
import math
import numbers
from typing import Any

from walt_jax.core import errors
from walt_jax.core import extensions
from walt_jax.evaluation import comparison
from walt_jax.evaluation import control
from walt_jax.evaluation import fid
from walt_jax.evaluation import fvd
from walt_jax.evaluation import inception_score
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric
from walt_jax.evaluation import reconstruct

METRICS: dict[str, type[metric.Metric]] = {
    'fvd': fvd.FVD, 'fid': fid.FID, 'is': inception_score.InceptionScore,
    'reconstruction': reconstruct.Reconstruction, 'control': control.Control}


def find(name: str, where: str) -> metric.Metric:
  """Makes the metric called `name`.

  Args:
    name: One of `METRICS`, or `module:Class`.
    where: What gave the name, for messages.

  Raises:
    UserError: There is none.
  """
  if name in METRICS:
    return METRICS[name]()
  if not extensions.is_name(name):
    raise errors.UserError(
        f'{where} is {name!r}; choose one of {", ".join(METRICS)}, or give '
        'one of your own as module:Class')
  return extensions.load(name, metric.Metric, where)()


def evaluate(scored: metric.Metric, inputs: inputs_lib.Inputs
             ) -> dict[str, Any]:
  """Evaluates a metric; the result names it, its sets, and has its number.

  Both sides are looked at before the metric computes anything.

  Raises:
    UserError: Inputs are missing or unfit, or the result is.
  """
  protocol, name = inputs.protocol, inputs.request.metric
  if protocol.metric not in (None, name):
    raise errors.UserError(
        f'protocol {protocol.name} is for {protocol.metric}, not {name}')
  compared = comparison.check(inputs, scored.takes)
  result = scored.evaluate(inputs)
  value = result.get('value') if isinstance(result, dict) else None
  if not isinstance(value, numbers.Real) or not math.isfinite(value):
    raise errors.UserError(
        f'metric {inputs.request.metric} gives {str(result)[:80]!r}; it must '
        "be a dict with a finite number 'value'")
  return dict(metric=inputs.request.metric,
              protocol=inputs.request.protocol) | result | compared
