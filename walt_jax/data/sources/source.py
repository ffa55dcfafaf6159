"""Sources of examples: random access, and nothing random inside.

An example is a dict with

  video: uint8 [N, H, W, 3], or `encoded`: a list of N compressed frames, or
    `video_file`: the bytes of a video of `num_frames`, `height`, `width`;
  label: int, an index into the source's `classes`;
  caption: str;  key: str, unique in the source;
  fps: frames/s, or None where nothing says them;
  captions: all of them, `caption` first, where there are several.

Examples of a latent cache (`latent_cache.py`) hold latents instead of frames.
A row of training shows one of several captions (`stream/captions.py`).
"""
import bisect
import itertools
from typing import Protocol


class Source(Protocol):
  """What the pipeline reads: example i is a pure function of i.

  A class of the user's own, found by `data.name`, is called with one of the
  names in `data.path` (or '') and the split, 'train' or 'heldout'. It may have
  an `index`, an array of `example_index.DTYPE`, a row for each example.
  """

  @property
  def classes(self) -> tuple[str, ...]:
    """Names by label id."""

  def __len__(self) -> int:
    ...

  def __getitem__(self, index: int) -> dict:
    ...


class Concatenation:
  """Several sources with the same classes, one after the other."""

  def __init__(self, parts: list[Source]):
    if len({part.classes for part in parts}) != 1:
      raise ValueError('Sources with different classes cannot be joined.')
    self._parts = parts
    self._starts = [0, *itertools.accumulate(len(part) for part in parts)]
    self.classes = parts[0].classes

  def __len__(self) -> int:
    return self._starts[-1]

  def __getitem__(self, index: int) -> dict:
    if not 0 <= index < len(self):
      raise IndexError(f'Example {index} of {len(self)}.')
    part = bisect.bisect_right(self._starts, index) - 1
    return self._parts[part][index - self._starts[part]]
