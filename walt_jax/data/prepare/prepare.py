"""Folders of videos, images and tar shards -> a dataset with a manifest."""
from collections.abc import Callable
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import time

import av
import numpy as np

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.data.prepare import accounts
from walt_jax.data.prepare import annotations as annotations_lib
from walt_jax.data.prepare import beam
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import video_folders
from walt_jax.data.prepare import work_items
from walt_jax.data.storage import caption_counts
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import example_index
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.data.storage import names as names_lib
from walt_jax.data.storage import shards
from walt_jax.data.storage import tfds_metadata
from walt_jax.media import decode

FORMAT_VERSION = 1
NAME = 'walt'
Settings = work_items.Settings

# Roles of a part's files: what is said of the members of a tar shard, and
# files read until now.
_SCAN, _BEGUN = 'members', 'begun'
_TELL_SECONDS = 2.0
_FILES_PER_WORKER = 16  # Fewer are not worth another process.
_BENCHMARK_CLIPS, _BENCHMARK_SECONDS = 32, 2.0


@dataclasses.dataclass(frozen=True)
class Engine:
  """Where the work is done.

  Attributes:
    workers: Processes on this machine; None is one a core, where there are
      files enough.
    pipeline_options: Beam's options, 'name=value,..'; `runner=` moves the work.
  """
  workers: int | None = None
  pipeline_options: str = ''


_DEFAULTS, _HERE = Settings(), Engine()


def versions() -> dict[str, str]:
  """Versions of what decides the bytes."""
  found = {name: importlib.metadata.version(name)
           for name in ('array_record', 'av', 'numpy', 'pillow')}
  for name in ('libavcodec', 'libavformat', 'libswscale'):
    found[name] = '.'.join(map(str, av.library_versions[name]))
  return found


def prepare(folder: str | os.PathLike, output: str | os.PathLike,
            settings: Settings = _DEFAULTS, *,
            annotations: annotations_lib.Annotations | None = None,
            split_folders: bool = False,
            limit: caption_counts.CaptionLimit | None = None,
            on: Engine = _HERE) -> dict:
  """Prepares `folder` into `output`; returns the manifest.

  Running it again after an interruption finishes the work; after the end it
  does nothing.

  Args:
    folder: The input.
    output: Folder of the dataset.
    settings: How clips are cut and stored.
    annotations: What is known of the files, if not in the folder itself.
    split_folders: Folders named train, val, test, .. are the splits.
    limit: What a text encoder reads, to count captions that it will cut;
      they are stored whole.
    on: Where the work is done; it changes no byte.

  Raises:
    errors.UserError: Unusable folders, a full disk, or no usable clip at all.
  """
  folder, output = pathlib.Path(folder), paths.path(output)
  _check_output(folder, output)
  found = video_folders.list_folder(
      folder, annotations=annotations, split_folders=split_folders,
      frame_folders=settings.min_frames > 1)
  task = dict(format_version=FORMAT_VERSION, input_sha256=found.sha256,
              settings=dataclasses.asdict(settings),
              versions=versions() | dict(reader=decode.VERSION))
  if limit is not None:
    task['caption_limit'] = limit.describe()
  done = shards.finished_manifest(output, task)
  if done is not None:
    return done
  parts = work_items.plan(found, settings)
  unfinished = shards.Unfinished(output, task)
  run = functools.partial(_run, unfinished, parts, on)
  tars = [part for part in parts if part.tar is not None]
  schema = _schema(found, _tar_schemas(unfinished, folder, tars, run))
  run(functools.partial(_write, unfinished, folder, schema, settings, limit),
      [part for part in parts if not unfinished.is_done(part.number)],
      'json', 'prepare')
  reports = [unfinished.report(part.number) for part in parts]
  everything = accounts.complete(found, (
      account for report in reports for account in report['accounts']))
  manifest = _manifest(task, schema.classes, reports, everything)
  manifest['captions']['matched_by_end'] = found.matched_by_end
  if not manifest['counts']['clips']:
    reasons = '; '.join(f'{r["file"]!r}: {r["reason"]}'
                        for r in manifest['rejected'][:3])
    raise errors.UserError(
        f'no usable clip among {manifest["counts"]["files"]} files of '
        f'{str(folder)!r} ({reasons})')
  lines = accounts.to_lines(everything)
  unfinished.write(accounts.LIST, lines)
  manifest['inputs'] = dict(file=accounts.LIST, lines=len(everything),
                            sha256=hashlib.sha256(lines).hexdigest())
  finish(unfinished, manifest, reports)
  return manifest


def _check_output(folder: pathlib.Path, output: pathlib.Path) -> None:
  """Refuses to write prepared data into the input."""
  if paths.is_remote(output):
    return  # The input is local.
  try:
    source, target = folder.resolve(), output.resolve()
  except (OSError, RuntimeError, ValueError) as error:
    raise errors.UserError(
        f'--input {str(folder)!r} and --output {str(output)!r} cannot be '
        f'opened: {errors.words(error)}') from error
  if target.is_relative_to(source) and not any(
      part.startswith('.') for part in target.relative_to(source).parts):
    raise errors.UserError(
        f'--output {str(output)!r} lies in --input {str(folder)!r}: prepared '
        'data would be taken for input; choose a folder outside of it')


def finish(unfinished: shards.Unfinished, manifest: dict,
           reports: list[dict]) -> None:
  """Publishes the parts of a dataset and writes its manifest.

  Args:
    unfinished: The set; part n has `reports[n]`.
    manifest: All but the shards.
    reports: Reports of the parts: `split` and `counts['records']`.
  """
  for split, entry in manifest['splits'].items():
    numbers = [number for number, report in enumerate(reports)
               if report['split'] == split and report['counts']['records']]
    rows = [_index_rows(unfinished, number) for number in numbers]
    entry['index'] = f'{NAME}-{split}.index.npy'
    unfinished.write(entry['index'], example_index.to_bytes(
        np.concatenate(rows) if rows else []))
    entry['shards'] = unfinished.publish(numbers, f'{NAME}-{split}')
  tfds_metadata.write(
      unfinished, NAME, manifest['codec'], manifest['classes'],
      manifest['splits'], list_captions=bool(
          manifest.get('captions', {}).get('clips_with_several')))
  manifest['benchmark'] = manifest.get('benchmark', {}) | _read_benchmark(
      unfinished.output, manifest)
  unfinished.finish(manifest)


def _index_rows(unfinished: shards.Unfinished, number: int) -> np.ndarray:
  with files.opened(unfinished.part_file(number, work_items.INDEX)) as file:
    return np.load(file)


def _run(unfinished: shards.Unfinished, parts: list[work_items.Part],
         on: Engine, task: Callable[[work_items.Part], None],
         items: list[work_items.Part], role: str, label: str) -> None:
  """Runs a task for some parts, each of which leaves a file."""
  sizes = {part.number: max(1, len(part.files)) for part in parts}
  total = sum(sizes.values())
  workers = on.workers
  if workers is None:
    workers = min(os.cpu_count() or 1, 1 + total // _FILES_PER_WORKER)

  def done() -> int:
    finished = set(unfinished.present(role))
    begun = set(unfinished.present(_BEGUN)) - finished
    return sum(sizes.get(number, 0) for number in finished) + sum(
        min(sizes.get(number, 0), _files_read(unfinished, number))
        for number in begun)

  beam.run(task, items, done=done, total=total, label=label,
             workers=workers, pipeline_options=on.pipeline_options)


def _files_read(unfinished: shards.Unfinished, number: int) -> int:
  """How many files of a part have been read, roughly."""
  try:
    return int(unfinished.part_file(number, _BEGUN).read_text() or 0)
  except (OSError, ValueError):  # Being written.
    return 0


def _write(unfinished: shards.Unfinished, folder: pathlib.Path,
           schema: work_items.Schema, settings: Settings,
           limit: caption_counts.CaptionLimit | None,
           part: work_items.Part) -> None:
  number = part.number
  told = 0.0

  def tell(files: int) -> None:
    nonlocal told
    if not paths.is_remote(unfinished.output) and (
        time.monotonic() - told > _TELL_SECONDS):
      told = time.monotonic()
      with contextlib.suppress(OSError):  # Only for the progress bar.
        unfinished.part_file(number, _BEGUN).write_text(str(files))

  unfinished.mark_done(number, work_items.write_part(
      part, folder, schema, settings, unfinished.part_file(number),
      unfinished.part_file(number, work_items.INDEX), tell, limit))


def _schema(found: listing.Listing,
            tars: list[work_items.Schema]) -> work_items.Schema:
  """The schema of files and tar shards together."""
  own = work_items.schema_of(found.files)
  labels = {label for part in (own, *tars) for label in part.classes}
  return work_items.Schema(
      listing.class_names(labels, found.known_classes),
      any(part.list_captions for part in (own, *tars)))


def _tar_schemas(unfinished: shards.Unfinished, folder: pathlib.Path,
                 tars: list[work_items.Part], run) -> list[work_items.Schema]:
  """The schema of each tar shard; the workers list what is inside."""
  todo = [part for part in tars
          if not unfinished.part_file(part.number, _SCAN).exists()]
  run(functools.partial(_scan, unfinished, folder), todo, _SCAN, 'list shards')
  found = [files.read_json(unfinished.part_file(part.number, _SCAN))
           for part in tars]
  return [work_items.Schema(tuple(one['classes']), one['list_captions'])
          for one in found]


def _scan(unfinished: shards.Unfinished, folder: pathlib.Path,
          part: work_items.Part) -> None:
  members = work_items.expand(part, folder).files
  files.write_json(unfinished.part_file(part.number, _SCAN),
                   dataclasses.asdict(work_items.schema_of(members)))


def _manifest(task: dict, classes: tuple[str, ...], reports: list[dict],
              everything: list[accounts.Account]) -> dict:
  """All of the manifest but the shards."""
  splits = {}
  for split in names_lib.SPLITS:
    own = [report for report in reports if report['split'] == split]
    splits[split] = dict(
        num_examples=sum(report['counts']['records'] for report in own),
        num_frames=sum(report['frames'] for report in own))
  summary = accounts.summary(everything)
  summary['counts']['clips'] = sum(
      entry['num_examples'] for entry in splits.values())
  return dict(
      format=manifest_lib.DATASET_FORMAT, name=NAME,
      task_sha256=shards.task_sha256(task), **task,
      codec=task['settings']['codec'], classes=list(classes), splits=splits,
      captions=caption_counts.total(
          report['captions'] for report in reports),
      **summary, benchmark=_write_benchmark(reports))


def _write_benchmark(reports: list[dict]) -> dict:
  """How fast the input was decoded; the only figures that time changes."""
  decoded = sum(report['decoded'] for report in reports)
  return dict(
      input_frames_decoded=decoded,
      input_frames_per_second_per_worker=_rate(
          decoded, sum(report['decode_seconds'] for report in reports)),
      prepared_frames_per_second_per_worker=_rate(
          decoded, sum(report['seconds'] for report in reports)))


def _read_benchmark(output: pathlib.Path, manifest: dict) -> dict:
  """How fast 17 neighbouring frames of what was written are read back."""
  frames, start = 0, time.perf_counter()
  for split, entry in manifest['splits'].items():
    dataset = dataset_lib.PreparedDataset(output, split, manifest)
    count = entry['num_examples']
    for number in np.linspace(0, count - 1, min(count, _BENCHMARK_CLIPS)):
      example = dataset[int(number)]
      indices = np.arange(min(17, codecs.num_frames(example)))
      row = dataset.index[int(number)]
      codecs.read_clip(example, indices, int(row['height']), int(row['width']))
      frames += len(indices)
      if time.perf_counter() - start > _BENCHMARK_SECONDS:
        break
  return dict(stored_frames_read=frames, stored_frames_per_second=_rate(
      frames, time.perf_counter() - start))


def _rate(count: int, seconds: float) -> float:
  return round(count / max(seconds, 1e-6), 1)
