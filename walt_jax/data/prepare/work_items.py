"""The work of one shard: files -> examples, with every file accounted for.

`process_file` and `write_part` are pure functions of their arguments and the
files they read: any engine may call them, in any order and number, and the
bytes written are the same.
"""
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
import pathlib
import time

import numpy as np

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import pixels
from walt_jax.data.prepare import accounts
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import tar_shards
from walt_jax.data.storage import caption_counts
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import example_index
from walt_jax.data.storage import examples
from walt_jax.data.storage import frames as frames_lib
from walt_jax.data.storage import names as names_lib
from walt_jax.data.storage import shards
from walt_jax.media import decode

# Many files make shards of so many; few make about so many shards, so that
# there is work for several workers.
_FILES_PER_SHARD, _SHARDS_OF_SMALL_SETS = 64, 16

INDEX = 'index'  # Role of a part's table in `shards.Unfinished`.


@dataclasses.dataclass(frozen=True)
class Settings:
  """How clips are cut and stored; all of it shows in the manifest.

  Attributes:
    size: Pixels of the shorter side.
    fps: Frames a second to resample to; None keeps each file's own rate.
    min_frames: Shorter clips are rejected.
    clip_frames: Longer videos are cut into clips of this many frames.
    clip_stride: Frames from one clip's start to the next one's; None is
      `clip_frames`.
    codec: One of `codecs.CODECS`.
    quality: Quality of the codec, 1 to 100.
    heldout: Fraction of the groups of files that go to split `heldout`, where
      nothing else says which do.
    num_shards: Shards in all, about; None chooses by the number of files. A
      tar shard makes one shard.
  """
  size: int = 128
  fps: float | None = None
  min_frames: int = 17
  clip_frames: int = 128
  clip_stride: int | None = None
  codec: str = 'jpeg'
  quality: int = 95
  heldout: float = 0.1
  num_shards: int | None = None

  def __post_init__(self):
    if self.codec not in codecs.CODECS:
      raise errors.UserError(f'unknown codec {self.codec!r}: choose one of '
                             f'{", ".join(codecs.CODECS)}')
    if not 0 <= self.heldout < 1:
      raise errors.UserError(
          f'the held-out fraction must be in [0, 1), got {self.heldout}')
    if self.min_frames > self.clip_frames:
      raise errors.UserError(
          f'clips of {self.clip_frames} frames are shorter than the shortest '
          f'one accepted, {self.min_frames}')
    numbers = (self.size, self.min_frames, self.quality) + tuple(
                   number for number in (self.clip_stride, self.num_shards)
                   if number is not None)
    if min(numbers) < 1 or (self.fps is not None and self.fps <= 0):
      raise errors.UserError(f'sizes, counts and rates are positive: {self}')
    if self.quality > 100:
      raise errors.UserError(f'the quality is 1 to 100, got {self.quality}')


@dataclasses.dataclass(frozen=True)
class Schema:
  """What all records of a set agree on.

  Attributes:
    classes: Class names, by label id.
    list_captions: Whether they hold a list of captions: some clip has several.
  """
  classes: tuple[str, ...]
  list_captions: bool = False


@dataclasses.dataclass(frozen=True)
class Part:
  """The work of one shard: some files, or all of a tar shard."""
  number: int
  split: str
  files: tuple[listing.InputFile, ...] = ()
  tar: listing.TarFile | None = None


class _Stopwatch:
  """Counts frames, and the seconds that an iterator takes to make them."""

  def __init__(self):
    self.seconds, self.frames = 0.0, 0

  def __call__(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    while True:
      start = time.perf_counter()
      frame = next(frames, None)
      self.seconds += time.perf_counter() - start
      if frame is None:
        return
      self.frames += 1
      yield frame


def process_file(file: listing.InputFile, reader: decode.Reader,
                 schema: Schema, settings: Settings, watch=iter
                 ) -> Iterator[tuple]:
  """Yields the clips of one file: serialised example and row of the index.

  Args:
    file: What to cut.
    reader: The file, opened as `settings` say.
    schema: What all records agree on.
    settings: How to cut and store.
    watch: Passes on the iterator of frames, measuring.

  Raises:
    decode.ClipError: Nothing more can be had from the file. Clips yielded
      before are good.
  """
  fps = reader.info.fps
  label = schema.classes.index(file.label)
  count = 0
  for segment in reader.segments():  # No clip crosses a cut.
    for clip in frames_lib.cut(watch(segment.frames), settings.clip_frames,
                               settings.clip_stride or settings.clip_frames,
                               settings.min_frames):
      encoded = codecs.encode_clip(clip, settings.codec, settings.quality, fps)
      features = dataset_lib.example_features(
          clip, encoded, label, file.captions, fps, f'{file.key}#{count}',
          list_captions=schema.list_captions)
      yield examples.encode(features), (*clip.shape[:3], fps, label)
      count += 1
  if not count:
    places = reader.info.damage or reader.info.cuts
    what = 'damaged' if reader.info.damage else 'cut'
    hint = f' in one piece; {what}: {places[0]}' if places else ''
    if decode.is_image(file.path):
      hint = ' (--num_frames 1 takes still images)'
    raise decode.ClipError(
        f'shorter than {settings.min_frames} frames{hint}')


def schema_of(inputs: Sequence[listing.InputFile]) -> Schema:
  """What the records of some files need."""
  return Schema(tuple(sorted({file.label for file in inputs})),
                any(len(file.captions) > 1 for file in inputs))


def write_part(part: Part, folder: pathlib.Path, schema: Schema,
               settings: Settings, target: pathlib.Path,
               index_target: pathlib.Path, tell: Callable[[int], None],
               limit: caption_counts.CaptionLimit | None = None) -> dict:
  """Writes one shard and its table; returns its report (a JSON value).

  Args:
    part: What it holds.
    folder: The input.
    schema: What all records agree on.
    settings: How clips are cut and stored.
    target: File of the shard.
    index_target: File of the table.
    tell: Called with the number of files that have been read.
    limit: What a text encoder reads, to count captions that it will cut.
  """
  contents = expand(part, folder)
  tried: list[accounts.Account] = []
  rows: list[tuple] = []
  said = caption_counts.CaptionCounts(limit)
  watch = _Stopwatch()

  def records():
    for number, file in enumerate(contents.files):
      tell(number)
      reader, reason, good, before = None, '', 0, watch.frames
      try:
        reader = _open(part, folder, file, settings)
        for record, row in process_file(
            file, reader, schema, settings, watch):
          rows.append(row)
          said.add(file.captions)
          yield record
          good += 1
      except decode.ClipError as error:
        reason = str(error)
      except errors.UserError:
        raise  # Not of this file.
      except Exception as error:  # pylint: disable=broad-except
        # Whatever a file makes a library raise, it is that file's fault alone.
        reason = f'cannot be read: {errors.reason(error)}'
      tried.append(accounts.of_file(
          file.key, clips=good, frames=watch.frames - before, reason=reason,
          info=reader.info if reader else None))

  start = time.perf_counter()
  count = shards.write_records(target, records())
  files.write_bytes(index_target, example_index.to_bytes(rows))
  return dict(
      split=part.split, counts=dict(records=count),
      accounts=tried + accounts.untried(
          contents.rejected, contents.hidden, contents.texts),
      captions=said.report(), frames=sum(row[0] for row in rows),
      decoded=watch.frames, decode_seconds=watch.seconds,
      seconds=time.perf_counter() - start)


def expand(part: Part, folder: pathlib.Path) -> tar_shards.Contents:
  """The files of a part, or all that its tar shard holds."""
  if part.tar is None:
    return tar_shards.Contents(part.files)
  return tar_shards.scan(folder, part.tar)


def _open(part: Part, folder: pathlib.Path, file: listing.InputFile,
          settings: Settings) -> decode.Reader:
  """Opens a file, wherever its bytes are."""
  size = functools.partial(pixels.cover, height=settings.size,
                           width=settings.size)
  read = functools.partial(decode.Reader, fps=settings.fps, size=size,
                           start=file.start, end=file.end)
  if part.tar is None:
    return read(folder / file.path)
  try:
    data = tar_shards.read_member(folder, part.tar.path, file)
  except OSError as error:
    raise decode.ClipError(f'cannot read: {error.strerror}') from error
  return read(file.path, data=data)


def plan(found: listing.Listing, settings: Settings) -> list[Part]:
  """Cuts the input into parts, split by split."""
  items = found.files + found.tars
  heldout = listing.heldout_groups(items, settings.heldout)
  count = len(found.files)
  if settings.num_shards is None:
    chunk_size = min(_FILES_PER_SHARD, -(-count // _SHARDS_OF_SMALL_SETS))
  else:
    chunk_size = -(-count // settings.num_shards)
  chunk_size = max(1, chunk_size)

  def split_of(item):
    hashed = names_lib.HELD_OUT if item.group in heldout else names_lib.TRAIN
    return item.split or hashed

  parts: list[Part] = []
  for split in names_lib.SPLITS:
    members = [file for file in found.files if split_of(file) == split]
    for start in range(0, len(members), chunk_size):
      chunk = tuple(members[start:start + chunk_size])
      parts.append(Part(len(parts), split, chunk))
    for tar in found.tars:
      if split_of(tar) == split:
        parts.append(Part(len(parts), split, tar=tar))
  return parts
