"""Folders of videos -> a sharded ArrayRecord dataset with a manifest.

`process_file` and `write_part` are pure functions of their arguments and the
files they read: any engine may call them, in any order and number, and the
bytes written are the same.
"""
from collections.abc import Callable, Iterator, Mapping
import concurrent.futures
import dataclasses
import functools
import importlib.metadata
import multiprocessing
import pathlib

import numpy as np

from walt_jax import errors, progress
from walt_jax.data import clips, examples, shards, sources, video_folders

FORMAT_VERSION = 1
NAME = 'walt'


@dataclasses.dataclass(frozen=True)
class Settings:
  """How clips are cut and stored; all of it shows in the manifest.

  Attributes:
    size: Pixels of the shorter side.
    fps: Frames a second to resample to; None keeps each file's own rate.
    min_frames: Shorter clips are rejected.
    clip_frames: Longer videos are cut into clips of this many frames.
    clip_stride: Frames from one clip's start to the next one's.
    codec: 'jpeg' or 'png' (lossless), for each frame.
    quality: Of JPEG.
    heldout: Fraction of the groups of files that go to split `heldout`.
    files_per_shard: Input files of one shard.
    num_shards: Shards in all, about; overrides `files_per_shard`.
  """
  size: int = 128
  fps: float | None = None
  min_frames: int = 17
  clip_frames: int = 128
  clip_stride: int = 128
  codec: str = 'jpeg'
  quality: int = 95
  heldout: float = 0.1
  files_per_shard: int = 64
  num_shards: int | None = None

  def __post_init__(self):
    if self.codec not in ('jpeg', 'png'):
      raise errors.UserError(f'unknown codec {self.codec!r}: jpeg or png')
    if not 0 <= self.heldout < 1:
      raise errors.UserError(
          f'the held-out fraction must be in [0, 1), got {self.heldout}')
    if self.min_frames > self.clip_frames:
      raise errors.UserError(
          f'clips of {self.clip_frames} frames are shorter than the shortest '
          f'one accepted, {self.min_frames}')
    numbers = (self.size, self.min_frames, self.clip_stride,
               self.files_per_shard)
    if min(numbers) < 1 or (self.fps is not None and self.fps <= 0):
      raise errors.UserError(f'sizes, counts and rates are positive: {self}')


@dataclasses.dataclass(frozen=True)
class Part:
  """The work of one shard."""
  number: int
  split: str
  files: tuple[video_folders.InputFile, ...]


def process_file(folder: pathlib.Path, file: video_folders.InputFile,
                 label: int, settings: Settings
                 ) -> Iterator[tuple[bytes, int]]:
  """Yields the serialised examples of one file, with their frame counts.

  Raises:
    clips.ClipError: Nothing more can be had from the file. Clips yielded
      before are good.
  """
  info, frames = clips.read_frames(folder / file.path, fps=settings.fps,
                                   short_side=settings.size)
  count = 0
  for number, clip in enumerate(clips.cut(
      frames, settings.clip_frames, settings.clip_stride,
      settings.min_frames)):
    count += 1
    encoded = [clips.encode_frame(frame, settings.codec, settings.quality)
               for frame in clip]
    yield examples.encode(sources.example_features(
        encoded, label, file.caption, info.fps,
        f'{file.path}#{number}')), len(encoded)
  if not count:
    raise clips.ClipError(f'shorter than {settings.min_frames} frames')


def write_part(part: Part, folder: pathlib.Path, classes: tuple[str, ...],
               settings: Settings, target: pathlib.Path) -> dict:
  """Writes one shard and returns its report (a JSON value)."""
  rejected, damaged = [], []
  frames = 0

  def records():
    nonlocal frames
    for file in part.files:
      good = 0
      try:
        for record, length in process_file(
            folder, file, classes.index(file.label), settings):
          frames += length
          yield record
          good += 1
      except clips.ClipError as error:
        if good:
          damaged.append([file.path, f'{error}; kept {good} clips before it'])
        else:
          rejected.append([file.path, str(error)])

  count = shards.write_records(target, records())
  return dict(split=part.split, counts=dict(records=count), frames=frames,
              files=len(part.files), rejected=rejected, damaged=damaged)


def plan_parts(listing: video_folders.Listing,
               settings: Settings) -> list[Part]:
  """Cuts the list of files into shards, split by split."""
  heldout = video_folders.heldout_groups(listing.files, settings.heldout)
  chunk_size = settings.files_per_shard
  if settings.num_shards is not None:
    chunk_size = max(1, -(-len(listing.files) // settings.num_shards))
  parts = []
  for split in ('train', 'heldout'):
    members = [file for file in listing.files
               if (file.group in heldout) == (split == 'heldout')]
    for start in range(0, len(members), chunk_size):
      chunk = tuple(members[start:start + chunk_size])
      parts.append(Part(len(parts), split, chunk))
  return parts


def versions() -> dict[str, str]:
  """Versions of what decides the bytes."""
  return {name: importlib.metadata.version(name)
          for name in ('array_record', 'av', 'numpy', 'pillow')}


def prepare(folder: str | pathlib.Path, output: str | pathlib.Path,
            settings: Settings = Settings(), *, workers: int = 1) -> dict:
  """Prepares `folder` into `output`; returns the manifest.

  Running it again after an interruption finishes the work; after the end it
  does nothing.

  Raises:
    errors.UserError: Unusable folders, or no usable clip at all.
  """
  folder, output = pathlib.Path(folder), pathlib.Path(output)
  listing = video_folders.list_folder(folder)
  task = dict(format_version=FORMAT_VERSION, input_sha256=listing.sha256,
              settings=dataclasses.asdict(settings), versions=versions())
  done = shards.finished_manifest(output, task)
  if done is not None:
    return done
  parts = plan_parts(listing, settings)
  unfinished = shards.Unfinished(output, task)
  write = functools.partial(_write_and_mark, unfinished, folder,
                            listing.classes, settings)
  _run(write, [part for part in parts if not unfinished.is_done(part.number)],
       workers, total=len(listing.files))
  reports = [unfinished.report(part.number) for part in parts]
  manifest = _manifest(listing, task, reports)
  if not manifest['counts']['clips']:
    reasons = '; '.join(f'{r["file"]}: {r["reason"]}'
                        for r in manifest['rejected'][:3])
    raise errors.UserError(
        f'no usable clip among {manifest["counts"]["files"]} files of '
        f'{str(folder)!r} ({reasons})')
  for split in manifest['splits']:
    numbers = [part.number for part, report in zip(parts, reports, strict=True)
               if report['split'] == split and report['counts']['records']]
    manifest['splits'][split]['shards'] = unfinished.publish(
        numbers, f'{NAME}-{split}')
  unfinished.finish(manifest)
  return manifest


def _write_and_mark(unfinished: shards.Unfinished, folder: pathlib.Path,
                    classes: tuple[str, ...], settings: Settings,
                    part: Part) -> int:
  report = write_part(part, folder, classes, settings,
                      unfinished.part_file(part.number))
  unfinished.mark_done(part.number, report)
  return len(part.files)


def _run(write: Callable[[Part], int], parts: list[Part], workers: int,
         total: int) -> None:
  remaining = sum(len(part.files) for part in parts)
  with progress.bar(total, 'prepare', 'file',
                    initial=total - remaining) as bar:
    if workers <= 1 or len(parts) <= 1:
      for part in parts:
        bar.update(write(part))
      return
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
      for count in pool.map(write, parts):
        bar.update(count)


def _manifest(listing: video_folders.Listing, task: dict,
              reports: list[dict]) -> dict:
  rejected = [dataclasses.asdict(r) for r in listing.rejected]
  rejected += [dict(file=file, reason=reason)
               for report in reports for file, reason in report['rejected']]
  rejected.sort(key=lambda entry: entry['file'])
  damaged = [dict(file=file, reason=reason)
             for report in reports for file, reason in report['damaged']]
  splits = {}
  for split in ('train', 'heldout'):
    own = [report for report in reports if report['split'] == split]
    splits[split] = dict(
        num_examples=sum(report['counts']['records'] for report in own),
        num_frames=sum(report['frames'] for report in own))
  files = len(listing.files) + len(listing.rejected)
  return dict(
      format=sources.DATASET_FORMAT, name=NAME, task_sha256=shards.digest(task),
      **task, classes=list(listing.classes), splits=splits,
      counts=dict(files=files, used=files - len(rejected),
                  rejected=len(rejected),
                  clips=sum(s['num_examples'] for s in splits.values())),
      rejected=rejected, damaged=damaged)


def write_sources(splits: Mapping[str, sources.Source],
                  output: str | pathlib.Path, task: dict, *,
                  codec: str = 'png', examples_per_shard: int = 512) -> dict:
  """Writes sources (such as moving digits) in the same format.

  Args:
    splits: Split name -> examples with `video`; all with the same classes.
    output: Folder of the dataset.
    task: JSON value that decides the content; equal tasks are not redone.
    codec: Of the frames.
    examples_per_shard: Examples in one file.
  """
  output = pathlib.Path(output)
  counts = {split: len(source) for split, source in splits.items()}
  task = dict(format_version=FORMAT_VERSION, codec=codec, split_sizes=counts,
              versions=versions()) | task
  done = shards.finished_manifest(output, task)
  if done is not None:
    return done
  unfinished = shards.Unfinished(output, task)
  parts = [(split, range(start, min(count, start + examples_per_shard)))
           for split, count in counts.items()
           for start in range(0, count, examples_per_shard)]
  with progress.bar(sum(counts.values()), 'render', 'clip') as bar:
    for number, (split, rows) in enumerate(parts):
      if unfinished.is_done(number):
        bar.update(len(rows))
        continue
      records = (_record(splits[split][row], codec, bar) for row in rows)
      count = shards.write_records(unfinished.part_file(number), records)
      unfinished.mark_done(number, dict(counts=dict(records=count)))
  entries = {}
  for split, count in counts.items():
    numbers = [n for n, (name, _) in enumerate(parts) if name == split]
    entries[split] = dict(
        num_examples=count,
        shards=unfinished.publish(numbers, f'{NAME}-{split}'))
  classes = next(iter(splits.values())).classes
  manifest = dict(format=sources.DATASET_FORMAT, name=NAME,
                  task_sha256=shards.digest(task), **task,
                  classes=list(classes), splits=entries,
                  counts=dict(clips=sum(counts.values())), rejected=[],
                  damaged=[])
  unfinished.finish(manifest)
  return manifest


def _record(example: dict, codec: str, bar) -> bytes:
  bar.update()
  video: np.ndarray = example['video']
  encoded = [clips.encode_frame(frame, codec, quality=100) for frame in video]
  return examples.encode(sources.example_features(
      encoded, example['label'], example['caption'], example['fps'],
      example['key']))
