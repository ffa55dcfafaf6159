"""Sets of clips that a model must beat, scored the same way as its own."""
from collections.abc import Mapping
from typing import Any

import numpy as np

from walt_jax.metrics import fvd
from walt_jax.metrics import video_features


def mean_clip(clips: np.ndarray, count: int) -> np.ndarray:
  """The data's mean clip, `count` times: uint8 [count, T, H, W, 3]."""
  mean = np.rint(np.mean(clips, axis=0, dtype=np.float64)).astype(np.uint8)
  return np.broadcast_to(mean, (count, *mean.shape))


def frozen_first_frames(clips: np.ndarray) -> np.ndarray:
  """Each clip with its first frame repeated: no motion, perfect frames."""
  return np.broadcast_to(clips[:, :1], clips.shape)


def score_sets(
    real: np.ndarray | fvd.FeatureSet, sets: Mapping[str, np.ndarray], *,
    network: video_features.VideoNetwork, frames: int | None = None
) -> dict[str, dict[str, Any]]:
  """FVD of each named set [N, T, H, W, 3] against one real set.

  The real set's features are computed once; so are those of equal clips.

  Returns:
    Name -> result, as `fvd.compare` gives it.
  """
  if not isinstance(real, fvd.FeatureSet):
    real = fvd.feature_set(real, network, frames=frames, label='FVD: real')
  return {
      name: fvd.compare(real, fvd.feature_set(
          clips, network, frames=frames, label=f'FVD: {name}'))
      for name, clips in sets.items()}
