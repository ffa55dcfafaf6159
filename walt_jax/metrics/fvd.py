"""Frechet video distance (Unterthiner et al., arXiv 1812.01717)."""
from collections.abc import Iterable
from typing import Any

import numpy as np

from walt_jax.metrics import feature_sets
from walt_jax.metrics import protocols
from walt_jax.metrics import scores
from walt_jax.metrics import video_features

FeatureSet = feature_sets.FeatureSet


def feature_set(
    clips: Iterable[np.ndarray], network: video_features.VideoNetwork, *,
    frames: int | None = None, label: str = 'features') -> FeatureSet:
  """Streams clips through I3D; see `feature_sets.collect`."""
  return feature_sets.collect(clips, network, frames=frames, label=label)


def compare(real: FeatureSet, generated: FeatureSet, *,
            protocol: str = 'quick') -> dict[str, Any]:
  """FVD of two sets as the result that `walt evaluate` writes.

  Raises:
    ValueError: The sets are of unlike frames, networks or preprocessing.
  """
  options = scores.Options(protocols.get(protocol))
  return scores.frechet_result('fvd', [real], [generated], options)


def fvd(
    real: np.ndarray | FeatureSet, generated: np.ndarray | FeatureSet, *,
    network: video_features.VideoNetwork | None = None,
    frames: int | None = None, protocol: str = 'quick') -> dict[str, Any]:
  """FVD of two sets of clips, uint8 [N, T, H, W, 3] or `feature_set`s.

  Args:
    real: Real clips; compute their `feature_set` once to score many sets.
    generated: The clips to score.
    network: Result of `video_features.load_network`; None loads the default.
    frames: First frames to score; None is `video_features.scored_frames`.
    protocol: A name of `protocols`.
  """
  if network is None:
    network = video_features.load_network()
  sets = [clips if isinstance(clips, FeatureSet)
          else feature_set(clips, network, frames=frames)
          for clips in (real, generated)]
  return compare(*sets, protocol=protocol)
