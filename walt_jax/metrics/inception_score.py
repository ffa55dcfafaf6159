"""Inception Score with stated splits (Salimans et al., arXiv 1606.03498)."""
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class InceptionScore:
  """Attributes:

    value: Mean over the splits.
    std: Standard deviation over the splits; 0 of one.
    num_splits: Consecutive parts that were scored on their own.
    split_size: Samples of the first (largest) of them.
  """
  value: float
  std: float
  num_splits: int
  split_size: int


def softmax(logits: np.ndarray) -> np.ndarray:
  """Probabilities of logits [N, C], in float64."""
  logits = np.asarray(logits, np.float64)
  exps = np.exp(logits - logits.max(axis=1, keepdims=True))
  return exps / exps.sum(axis=1, keepdims=True)


def inception_score(
    logits: np.ndarray, *, num_splits: int | None = None,
    split_size: int | None = None) -> InceptionScore:
  """exp of the mean divergence of each sample's classes from all samples'.

  It grows with the size of a split: scores of unlike splits do not compare.

  Args:
    logits: [N, C].
    num_splits: Number S of consecutive parts, from i N // S on (10 in the paper
      and in TGAN's UCF-101 score; 1 in MAGVIT's).
    split_size: Or parts of so many samples (5,000 in guided-diffusion's
      evaluator); the last may be smaller.

  Raises:
    ValueError: Not exactly one of both, or a split without a sample.
  """
  if (num_splits is None) == (split_size is None):
    raise ValueError('Give num_splits or split_size.')
  count = len(logits)
  if num_splits is not None:
    bounds = [i * count // num_splits for i in range(num_splits + 1)]
  else:
    bounds = [*range(0, count, split_size), count]
  sizes = np.diff(bounds)
  if not len(sizes) or sizes.min() < 1:
    raise ValueError(f'{count} samples do not fill {num_splits} splits.')
  probabilities = softmax(logits)
  scores = [_score(probabilities[first:last])
            for first, last in zip(bounds[:-1], bounds[1:], strict=True)]
  return InceptionScore(float(np.mean(scores)), float(np.std(scores)),
                        len(scores), int(sizes.max()))


def _score(probabilities: np.ndarray) -> float:
  mean = probabilities.mean(axis=0)
  # A class of probability zero adds nothing: p log p goes to 0.
  with np.errstate(divide='ignore', invalid='ignore'):
    terms = probabilities * (np.log(probabilities) - np.log(mean))
  return float(np.exp(np.nansum(terms, axis=1).mean()))
