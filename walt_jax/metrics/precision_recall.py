"""Precision and recall of generated features (Kynkaanniemi et al., 2019).

A set's manifold is the union of balls around its features, each reaching to
its k-th nearest neighbour. Precision is the share of generated features on
the real manifold, recall that of real features on the generated one
(arXiv 1904.06991; guided-diffusion's evaluator takes k = 3 as well).
"""
import numpy as np

NUM_NEIGHBOURS = 3
_BLOCK = 2048


def precision_recall(
    real: np.ndarray, generated: np.ndarray, *,
    num_neighbours: int = NUM_NEIGHBOURS) -> tuple[float, float]:
  """(precision, recall) of features [N, D] and [M, D].

  Raises:
    ValueError: A set has no k-th neighbour.
  """
  if min(len(real), len(generated)) <= num_neighbours:
    raise ValueError(
        f'Sets of {len(real)} and {len(generated)} features have no '
        f'neighbour number {num_neighbours}.')
  real = np.asarray(real, np.float64)
  generated = np.asarray(generated, np.float64)
  return (_covered(generated, real, _radii(real, num_neighbours)),
          _covered(real, generated, _radii(generated, num_neighbours)))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  norms = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
  return np.maximum(norms - 2 * (a @ b.T), 0.0)


def _radii(points: np.ndarray, k: int) -> np.ndarray:
  """Squared distance of each point [N, D] to its k-th neighbour: [N]."""
  radii = []
  for first in range(0, len(points), _BLOCK):
    rows = points[first:first + _BLOCK]
    distances = _squared_distances(rows, points)
    # A point is no neighbour of itself; rounding must not say otherwise.
    distances[np.arange(len(rows)), first + np.arange(len(rows))] = 0.0
    radii.append(np.partition(distances, k, axis=1)[:, k])
  return np.concatenate(radii)


def _covered(points: np.ndarray, centres: np.ndarray,
             radii: np.ndarray) -> float:
  """Share of the points that lie in a ball."""
  hits = 0
  for first in range(0, len(points), _BLOCK):
    distances = _squared_distances(points[first:first + _BLOCK], centres)
    hits += int((distances <= radii).any(axis=1).sum())
  return hits / len(points)
