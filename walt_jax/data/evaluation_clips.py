"""The clips of a prepared set as scores want them: fixed, and of one size."""
from collections.abc import Iterator
import os
import pathlib
import re

import numpy as np

from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import frames as frames_lib
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.data.storage import names as names_lib
from walt_jax.data.stream import filters

_SIZE = re.compile(r'([1-9]\d*)x([1-9]\d*)$')


class EvaluationClips:
  """Middle clips of one split, uint8 [T, H, W, 3], decoded when asked for.

  They are those that a training run evaluates on: neighbouring frames, resized
  to cover the frame, the centre cut out.

  Attributes:
    path: Folder of the set.
    split: 'train' or 'heldout'.
    num_frames: T.
    size: (H, W).
  """

  def __init__(self, path: str | os.PathLike, split: str | None = None, *,
               num_frames: int | None = None,
               size: tuple[int, int] | None = None):
    """Opens a set that `walt data prepare` wrote.

    Args:
      path: Its folder.
      split: Which clips; None is 'heldout', or 'train' where none is held out.
      num_frames: Shorter clips are left out, with a warning; None is the
        shortest length that the set was prepared for.
      size: Height and width; None is a square of the stored shorter side.

    Raises:
      errors.UserError: No such set or split, or no clip is long enough.
    """
    self.path = paths.path(path)
    manifest = manifest_lib.read_manifest(self.path)
    if split is None:
      held_out = manifest['splits'].get(names_lib.HELD_OUT, {})
      split = (names_lib.HELD_OUT if held_out.get('num_examples')
               else names_lib.TRAIN)
    self.split = split
    self._dataset = dataset_lib.PreparedDataset(self.path, split, manifest)
    table = self._dataset.index
    if not len(table):
      raise errors.UserError(f'the {split} split of {str(path)!r} is empty')
    settings = manifest['settings']
    self.num_frames = num_frames or settings.get(
        'min_frames', settings.get('num_frames', int(table['num_frames'][0])))
    side = int(min(table['height'].min(), table['width'].min()))
    self.size = size or (side, side)
    try:
      members = filters.long_enough(self._dataset, self.num_frames, None, 1)
    except ValueError as error:
      raise errors.UserError(f'{str(path)!r}, {split}: {error}') from error
    self._members = np.arange(len(table)) if members is None else members

  def __len__(self) -> int:
    return len(self._members)

  def __getitem__(self, index: int) -> np.ndarray:
    if not 0 <= index < len(self):
      raise IndexError(f'Clip {index} of {len(self)}.')
    example = self._dataset[int(self._members[index])]
    frames = frames_lib.frame_indices(
        codecs.num_frames(example), example['fps'], self.num_frames, None,
        None)
    return codecs.read_clip(example, frames, *self.size)

  def __iter__(self) -> Iterator[np.ndarray]:
    return (self[index] for index in range(len(self)))

  @property
  def rates(self) -> np.ndarray:
    """Frames a second of each clip."""
    return self._dataset.index['fps'][self._members]

  @property
  def codec(self) -> str:
    """What the clips are stored in: one of `codecs.CODECS`."""
    return self._dataset.manifest['codec']

  @property
  def is_lossless(self) -> bool:
    """Whether the codec keeps every pixel."""
    return self.codec in codecs.LOSSLESS

  @property
  def names(self) -> tuple[str, ...]:
    """A short name for each clip: its split and its number there."""
    return tuple(f'{self.split}-{row:08d}' for row in self._members)


def parse(name: str | os.PathLike
          ) -> tuple[pathlib.Path, str | None, tuple[int, int] | None] | None:
  """Reads 'DIR[:SPLIT][:HEIGHTxWIDTH]'; None if DIR is no prepared set."""
  path, *rest = str(name).split(':')
  for count in range(len(rest) + 1):  # A folder's own name may have a colon.
    folder = paths.path(':'.join([path, *rest[:count]]))
    if (folder / manifest_lib.MANIFEST).is_file():
      break
  else:
    return None
  split = size = None
  for word in rest[count:]:
    match = _SIZE.match(word)
    if word in names_lib.SPLITS and split is None:
      split = word
    elif match and size is None:
      size = int(match[1]), int(match[2])
    else:
      raise errors.UserError(
          f'{str(name)!r}: after a prepared set comes :SPLIT '
          f'({" or ".join(names_lib.SPLITS)}) or :HEIGHTxWIDTH, not {word!r}')
  return folder, split, size
