"""A source of fixed random crops of another source's clips."""
import numpy as np

from walt_jax.data.sources import source as source_lib


class Crops:
  """Every clip of a source cut to a smaller frame, at a place of its own.

  A tokenizer that will work on larger frames trains on pieces of them: pixels
  keep their scale, unlike in a resized clip. Example i is cut where a
  generator seeded by i says.
  """

  def __init__(self, source: source_lib.Source, height: int, width: int):
    """Wraps a source whose examples hold `video`."""
    self._source = source
    self._size = height, width
    self.classes = source.classes

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict:
    example = self._source[index]
    video = example['video']
    rng = np.random.default_rng([index, 29])
    top, left = (int(rng.integers(have - want + 1)) for have, want in
                 zip(video.shape[1:3], self._size, strict=True))
    height, width = self._size
    return example | dict(
        video=video[:, top:top + height, left:left + width])
