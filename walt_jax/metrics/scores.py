"""Scores of sets of features, as the results that `walt evaluate` writes."""
from collections.abc import Callable, Sequence
import dataclasses
from typing import Any
import warnings

import numpy as np

from walt_jax.core import moments as moments_lib
from walt_jax.metrics import bootstrap
from walt_jax.metrics import feature_network
from walt_jax.metrics import feature_sets
from walt_jax.metrics import frechet
from walt_jax.metrics import inception_score
from walt_jax.metrics import kernel
from walt_jax.metrics import precision_recall
from walt_jax.metrics import protocols

FeatureSet = feature_sets.FeatureSet

# Score reported with a Frechet distance -> the outputs it needs kept.
BESIDE = {
    'kvd': (feature_network.FEATURES,), 'kid': (feature_network.FEATURES,),
    'precision_recall': (feature_network.FEATURES,),
    'is': (feature_network.LOGITS,), 'sfid': (), }
ROUNDING = 'uint8 samples; resized values are not rounded'
DEFAULT_SPLITS = 10
_KID_SUBSET = 1000


@dataclasses.dataclass(frozen=True)
class Options:
  """How sets are scored.

  Attributes:
    protocol: Protocol whose covariance and root are used.
    also: Further scores, of `BESIDE`.
    resamples: Resamples of the bootstrap interval; 0 leaves it out.
    num_splits: Splits of the Inception Score, where the protocol names no size.
    seed: Random seed of subsets and resamples.
  """
  protocol: protocols.Protocol
  also: tuple[str, ...] = ()
  resamples: int = 0
  num_splits: int = DEFAULT_SPLITS
  seed: int = 0

  def keep(self) -> tuple[str, ...]:
    """Outputs that must be kept for these scores."""
    names = {name for score in self.also for name in BESIDE[score]}
    if self.resamples:
      names.add(feature_network.FEATURES)
    return tuple(sorted(names))


def frechet_result(
    metric: str, reals: Sequence[FeatureSet], generated: Sequence[FeatureSet],
    options: Options) -> dict[str, Any]:
  """Frechet distance of each repeat's set to its real one, and their mean.

  Args:
    metric: Name of the score.
    reals: The real set of each repeat, or one for all.
    generated: A set a repeat.
    options: How they are scored.

  Raises:
    ValueError: The sets are of unlike frames, networks or preprocessing, or
      not as many.
  """
  if len(reals) == 1:
    reals = [reals[0]] * len(generated)
  real = reals[0]
  for other in (*reals, *generated):
    for name in ('frames', 'network', 'preprocessing'):
      if getattr(real, name) != getattr(other, name):
        raise ValueError(
            f'The sets differ in {name}: {getattr(real, name)} and '
            f'{getattr(other, name)}.')
  protocol = options.protocol
  _warn_if_few(metric, real, generated)

  def distance(a: moments_lib.Moments, b: moments_lib.Moments) -> float:
    return frechet.frechet_distance(
        a, b, covariance=protocol.covariance, root=protocol.root)

  values = [distance(own.moments, other.moments)
            for own, other in zip(reals, generated, strict=True)]
  result = dict(
      metric=metric, value=float(np.mean(values)), values=values,
      std=float(np.std(values)),
      num_real=None if real.is_external else real.count,
      num_generated=generated[0].count, frames=real.frames,
      network=real.network, preprocessing=real.preprocessing,
      rounding=ROUNDING, covariance=protocol.covariance, root=protocol.root,
      **protocols.describe(protocol),
      real_content=feature_sets.joint_content(reals))
  first = generated[0]
  for name in options.also:
    result |= _BESIDE[name](real, first, options, distance)
  if options.resamples and not real.is_external:
    result['interval'] = dataclasses.asdict(bootstrap.interval(
        lambda a, b: distance(
            moments_lib.Moments.of(a), moments_lib.Moments.of(b)),
        real.kept[feature_network.FEATURES],
        first.kept[feature_network.FEATURES],
        resamples=options.resamples, seed=options.seed))
  return result


def inception_result(
    metric: str, generated: Sequence[FeatureSet], options: Options
) -> dict[str, Any]:
  """Inception Score of each repeat's logits, and their mean."""
  found = [_inception_score(other, options) for other in generated]
  values = [score.value for score in found]
  first = generated[0]
  return dict(
      metric=metric, value=float(np.mean(values)), values=values,
      std=float(np.std(values)), split_std=found[0].std, num_real=0,
      num_generated=first.count, frames=first.frames, network=first.network,
      preprocessing=first.preprocessing, rounding=ROUNDING, covariance=None,
      num_splits=found[0].num_splits, split_size=found[0].split_size,
      **protocols.describe(options.protocol))


def _inception_score(generated: FeatureSet, options: Options):
  logits = generated.kept[feature_network.LOGITS]
  size = options.protocol.split_size
  if size is not None:
    return inception_score.inception_score(logits, split_size=size)
  return inception_score.inception_score(
      logits, num_splits=min(options.num_splits, len(logits)))


def _warn_if_few(metric: str, real: FeatureSet,
                 generated: Sequence[FeatureSet]) -> None:
  width = len(real.moments.mean)
  counts = [other.count for other in generated]
  if not real.is_external:
    counts.append(real.count)
  if min(counts) <= width:
    warnings.warn(
        f'{metric} of {min(counts)} clips, not more than its {width} '
        'features: it is biased upwards; compare equal counts only.',
        stacklevel=3)


def _kernel_score(name: str):

  def score(real, generated, options, distance):
    del distance
    a, b = (s.kept[feature_network.FEATURES] for s in (real, generated))
    # KID is reported of subsets of 1,000; smaller sets are taken whole.
    size = _KID_SUBSET if min(len(a), len(b)) > _KID_SUBSET else None
    found = kernel.kernel_distance(a, b, subset_size=size, seed=options.seed)
    return {name: dataclasses.asdict(found)}

  return score


def _precision_recall(real, generated, options, distance):
  del options, distance
  precision, recall = precision_recall.precision_recall(
      *(s.kept[feature_network.FEATURES] for s in (real, generated)))
  return dict(precision=precision, recall=recall,
              num_neighbours=precision_recall.NUM_NEIGHBOURS)


def _beside_inception_score(real, generated, options, distance):
  del real, distance
  return dict(inception_score=dataclasses.asdict(
      _inception_score(generated, options)))


def _spatial(real, generated, options, distance):
  del options
  name = feature_network.SPATIAL
  return dict(sfid=distance(real.others[name], generated.others[name]))


_BESIDE: dict[str, Callable[..., dict[str, Any]]] = {
    'kvd': _kernel_score('kvd'), 'kid': _kernel_score('kid'),
    'precision_recall': _precision_recall, 'is': _beside_inception_score,
    'sfid': _spatial}
