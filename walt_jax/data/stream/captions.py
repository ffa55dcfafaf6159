"""Which of a clip's several captions a row shows."""
from collections.abc import Sequence

import numpy as np


def choose(example: dict, seed: Sequence[int] | None) -> dict:
  """An example as one of its captions describes it.

  Args:
    example: See `sources/source.py`; one without `captions` stays as it is.
    seed: Seed of the uniform draw; None takes the first caption.

  Returns:
    The example with that one `caption` and, of a latent cache, its `text` and
    `text_mask`.
  """
  if 'captions' not in example:
    return example
  captions = example['captions']
  number = 0
  if seed is not None:
    number = int(np.random.default_rng(seed).integers(len(captions)))
  chosen = example | dict(caption=captions[number])
  if 'read_text' in example:
    chosen['text'], chosen['text_mask'] = example['read_text'](number)
  return chosen
