"""Reading what was prepared: shards, and examples of their records."""
import bisect
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import functools
import itertools
import os
import pathlib
from typing import Any

import numpy as np

from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.data.storage import codecs
from walt_jax.data.storage import example_index
from walt_jax.data.storage import examples
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.media import video_info

_MAX_OPEN = 128  # Shards of a set, each an open file.
_MAX_RATE = 1e6  # Frames/s; more are taken for damage.


class Shards:
  """Records of several ArrayRecord files as one sequence of bytes."""

  def __init__(self, files: list[pathlib.Path], counts: list[int]):
    self._files = [str(file) for file in files]
    self._starts = [0, *itertools.accumulate(counts)]
    self._readers: dict[int, Any] = {}
    for file in _missing(files):
      raise errors.UserError(
          f'shard {str(file)!r} of the manifest is missing: prepare again')

  def __len__(self) -> int:
    return self._starts[-1]

  def __getitem__(self, index: int) -> bytes:
    if not 0 <= index < len(self):
      raise IndexError(f'Record {index} of {len(self)}.')
    shard = bisect.bisect_right(self._starts, index) - 1
    return self.read(shard, index - self._starts[shard])

  @property
  def num_shards(self) -> int:
    return len(self._files)

  def shard_of(self, index: int) -> int:
    return bisect.bisect_right(self._starts, index) - 1

  def start_of(self, shard: int) -> int:
    """Index of a shard's first record."""
    return self._starts[shard]

  def name_of(self, index: int) -> str:
    """The file of a record."""
    return self._files[min(self.shard_of(index), len(self._files) - 1)]

  def read(self, shard: int, index: int) -> bytes:
    """Record `index` of shard `shard`.

    Raises:
      errors.UserError: The shard is damaged.
    """
    try:
      return self._read(shard, index)
    except (RuntimeError, ValueError, IndexError) as error:
      # ArrayRecord's own: it checks what it reads.
      raise errors.UserError(
          f'shard {self._files[shard]!r} is damaged '
          f'({errors.reason(error)}): prepare again') from error

  def _read(self, shard: int, index: int) -> bytes:
    reader = self._readers.get(shard)
    if reader is None:
      from array_record.python import array_record_data_source
      while len(self._readers) >= _MAX_OPEN:  # The one opened first goes.
        self._readers.pop(list(self._readers)[0], None)
      reader = array_record_data_source.ArrayRecordDataSource(
          self._files[shard])
      self._readers[shard] = reader
    return reader[index]

  def __getstate__(self):  # File handles do not travel to worker processes.
    return self.__dict__ | {'_readers': {}}


def _missing(files: list[pathlib.Path]) -> list[pathlib.Path]:
  """Files that are not there; a bucket is asked once for each folder."""
  remote = {file.parent for file in files if paths.is_remote(file)}
  present = {file for folder in remote for file in folder.iterdir()}
  return [file for file in files if file not in present and (
      paths.is_remote(file) or not file.is_file())]


@contextlib.contextmanager
def explained(shards: Shards, index: int) -> Iterator[None]:
  """Makes a UserError of whatever a damaged record leads to.

  Args:
    shards: Where it was read from.
    index: Which one.
  """
  try:
    yield
  except (ArithmeticError, AttributeError, LookupError, TypeError,
          ValueError, video_info.ClipError) as error:
    raise errors.UserError(
        f'record {index} in shard {shards.name_of(index)!r} is damaged '
        f'({errors.reason(error)}): prepare again') from error


def label_of(features: Mapping[str, Any], classes: Sequence[str]) -> int:
  """The label of a record.

  Raises:
    ValueError: It is of no class.
  """
  label = int(features['label'][0])
  if not 0 <= label < len(classes):
    raise ValueError(f'label {label} of {len(classes)} classes')
  return label


def rate_of(features: Mapping[str, Any]) -> float:
  """The frames/s of a record; 0 where they are not known.

  Raises:
    ValueError: It is no rate.
  """
  rate = float(features['fps'][0])
  if not 0 <= rate < _MAX_RATE:
    raise ValueError(f'{rate:g} frames/s')
  return rate


def split_shards(path: pathlib.Path, manifest: dict, split: str,
                 role: str = 'shards') -> Shards:
  """Opens one split of a manifest."""
  if split not in manifest['splits']:
    raise errors.UserError(
        f'{str(path)!r} has no split {split!r}: it has '
        f'{", ".join(manifest["splits"])}')
  shards = manifest['splits'][split].get(role)
  if shards is None:
    raise errors.UserError(
        f'{str(path)!r} names no {role} of split {split!r}: its '
        f'{manifest_lib.MANIFEST} is damaged, prepare again')
  return Shards([path / shard['file'] for shard in shards],
                [shard['num_examples'] for shard in shards])


class PreparedDataset:
  """One split of what `walt data prepare` or `walt data render` wrote.

  Attributes:
    manifest: Manifest of the whole set.
    classes: Names by label id.
    index: A table of `example_index.DTYPE`, a row for each example.
  """

  def __init__(self, path: str | os.PathLike, split: str = 'train',
               manifest: dict | None = None):
    """Opens a split; `manifest` is the one about to be written there."""
    path = paths.path(path)
    self.manifest = manifest or manifest_lib.read_manifest(path)
    if self.manifest.get('format') != manifest_lib.DATASET_FORMAT:
      raise errors.UserError(
          f'{str(path)!r} holds {self.manifest.get("format")!r}, not a dataset '
          'of clips')
    if 'codec' not in self.manifest:
      raise errors.UserError(
          f'{str(path)!r} was written by an older version: prepare it again')
    self._shards = split_shards(path, self.manifest, split)
    self._in_frames = self.manifest['codec'] in codecs.FRAME_CODECS
    self._index_file = path / self.manifest['splits'][split]['index']
    self.classes = tuple(self.manifest['classes'])

  def __len__(self) -> int:
    return len(self._shards)

  @functools.cached_property
  def index(self) -> np.ndarray:
    try:
      table = example_index.read(self._index_file)
      if len(table) != len(self):
        raise ValueError(f'it tells of {len(table)} clips, not {len(self)}')
      return table
    except (OSError, ValueError) as error:
      raise errors.UserError(f'cannot read {str(self._index_file)!r}: {error}; '
                             'prepare again') from error

  def __getstate__(self):  # Each worker process maps the table itself.
    return {name: value for name, value in self.__dict__.items()
            if name != 'index'}

  def __getitem__(self, index: int) -> dict:
    record = self._shards[index]
    with explained(self._shards, index):
      return self._example(examples.decode(record))

  def _example(self, features: Mapping[str, Any]) -> dict:
    example: dict[str, Any] = dict(
        label=label_of(features, self.classes),
        caption=features['caption'][0].decode(),
        fps=rate_of(features),
        key=features['key'][0].decode('utf-8', 'surrogateescape'))
    if len(features.get('captions', ())) > 1:
      example['captions'] = tuple(
          caption.decode() for caption in features['captions'])
    if self._in_frames:
      example['encoded'] = features['video']
    else:
      example['video_file'] = features['video'][0]
      for name in ('num_frames', 'height', 'width'):
        example[name] = int(features[name][0])
      video_info.check_size(example['height'], example['width'])
    return example


def example_features(clip: np.ndarray, encoded: list[bytes], label: int,
                     captions: Sequence[str], fps: float, key: str, *,
                     list_captions: bool = False
                     ) -> dict[str, examples.Feature]:
  """The stored form of an example, what `PreparedDataset` reads.

  Args:
    clip: uint8 [N, H, W, 3], for its shape.
    encoded: Its compressed frames, or its one video.
    label: Index into the classes.
    captions: What it shows, said once or several times; () for nothing.
    fps: Frames/s.
    key: Unique in the set.
    list_captions: Store all captions, not just one; the same for a whole set.
  """
  frames, height, width, _ = clip.shape
  numbers = dict(label=label, num_frames=frames, height=height, width=width)
  texts = [caption.encode('utf-8', 'backslashreplace') for caption in captions]
  features: dict[str, examples.Feature] = dict(
      {name: np.array([number], np.int64) for name, number in numbers.items()},
      video=encoded, fps=np.array([fps], np.float32),
      caption=texts[:1] or [b''],
      key=[key.encode('utf-8', 'surrogateescape')])
  if list_captions:
    features['captions'] = texts or [b'']
  return features
