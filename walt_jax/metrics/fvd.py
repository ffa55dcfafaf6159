"""Frechet video distance (Unterthiner et al., arXiv 1812.01717)."""
from collections.abc import Iterable, Sized
import dataclasses
from typing import Any
import warnings

import numpy as np

from walt_jax.metrics import frechet
from walt_jax.metrics import protocols
from walt_jax.metrics import video_features
from walt_jax.pretrained import i3d


@dataclasses.dataclass(frozen=True)
class FeatureSet:
  """What FVD needs of one set of clips; reusable for many comparisons.

  Attributes:
    moments: Mean and scatter of the features.
    frames: Frames scored of each clip.
    network: Name, source and sha256 of the feature network.
    preprocessing: From uint8 clip to the network's input, by name.
  """
  moments: frechet.Moments
  frames: int
  network: dict[str, str]
  preprocessing: str = video_features.PREPROCESSING

  @property
  def count(self) -> int:
    return self.moments.count


def feature_set(
    clips: Iterable[np.ndarray], network: video_features.VideoNetwork, *,
    frames: int | None = None, label: str = 'I3D features') -> FeatureSet:
  """Streams clips through the network; keeps only their statistics.

  Args:
    clips: uint8 [N, T, H, W, 3], or an iterable of [T, H, W, 3] of one shape.
    network: From `video_features.load_network`.
    frames: First frames to score; None is `video_features.scored_frames`.
    label: For the progress bar.

  Raises:
    ValueError: Another type or shape, or fewer than 9 frames to score.
  """
  moments = frechet.Moments.empty(i3d.NUM_FEATURES)
  checked = _Checked(clips, frames)
  total = len(clips) if isinstance(clips, Sized) else None
  for batch in network.feature_batches(checked, total=total, label=label):
    moments = moments.add(batch)
  if not moments.count:
    raise ValueError('FVD of an empty set of clips.')
  return FeatureSet(moments, checked.frames,
                    dataclasses.asdict(network.info))


def compare(
    real: FeatureSet, generated: FeatureSet, *, protocol: str = 'quick',
    covariance: frechet.Covariance = 'unbiased') -> dict[str, Any]:
  """FVD of two sets as the result that `walt evaluate` writes.

  Raises:
    ValueError: The sets are of unlike frames, networks or preprocessing.
  """
  for name in ('frames', 'network', 'preprocessing'):
    if getattr(real, name) != getattr(generated, name):
      raise ValueError(
          f'The sets differ in {name}: {getattr(real, name)} and '
          f'{getattr(generated, name)}.')
  smallest = min(real.count, generated.count)
  if smallest <= i3d.NUM_FEATURES:
    warnings.warn(
        f'FVD of {smallest} clips, fewer than its {i3d.NUM_FEATURES} '
        'features: it is biased upwards; compare equal counts only.',
        stacklevel=2)
  value = frechet.frechet_distance(
      real.moments, generated.moments, covariance=covariance)
  return dict(
      metric='fvd', value=value, values=[value], num_real=real.count,
      num_generated=generated.count, frames=real.frames,
      network=real.network, preprocessing=real.preprocessing,
      covariance=covariance, protocol=protocol,
      comparable_to=list(protocols.get(protocol).comparable_to))


def fvd(
    real: np.ndarray | FeatureSet, generated: np.ndarray | FeatureSet, *,
    network: video_features.VideoNetwork | None = None,
    frames: int | None = None, protocol: str = 'quick') -> dict[str, Any]:
  """FVD of two sets of clips, uint8 [N, T, H, W, 3] or `feature_set`s.

  Args:
    real: Real clips; compute their `feature_set` once to score many sets.
    generated: The clips to score.
    network: From `video_features.load_network`; None loads the default.
    frames: First frames to score; None is `video_features.scored_frames`.
    protocol: A name of `protocols`.
  """
  if network is None:
    network = video_features.load_network()
  sets = [clips if isinstance(clips, FeatureSet)
          else feature_set(clips, network, frames=frames)
          for clips in (real, generated)]
  return compare(*sets, protocol=protocol)


class _Checked:
  """Iterates over clips, checked and cut to the frames that are scored."""

  def __init__(self, clips: Iterable[np.ndarray], frames: int | None):
    self.frames = frames or 0
    self._clips = clips
    self._wanted = frames

  def __iter__(self):
    shape = None
    for clip in self._clips:
      clip = np.asarray(clip)
      if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3:
        raise ValueError(f'Clips must be uint8 [T, H, W, 3], got {clip.dtype} '
                         f'{clip.shape}.')
      count = video_features.scored_frames(len(clip), self._wanted)
      if count < i3d.MIN_FRAMES or len(clip) < count:
        raise ValueError(
            f'A clip of {len(clip)} frames cannot be scored on {count}; I3D '
            f'needs at least {i3d.MIN_FRAMES} frames.')
      clip = clip[:count]
      if shape is None:
        shape, self.frames = clip.shape, count
      if clip.shape != shape:
        raise ValueError(f'Clips of unlike shapes: {shape} and {clip.shape}.')
      yield clip
