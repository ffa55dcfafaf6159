"""Sources that are generated (such as moving digits) -> a dataset on disk."""
from collections.abc import Mapping
import pathlib

from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import progress
from walt_jax.data.prepare import prepare
from walt_jax.data.prepare import work_items
from walt_jax.data.sources import source as source_lib
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import example_index
from walt_jax.data.storage import examples
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.data.storage import shards


def write_sources(splits: Mapping[str, source_lib.Source],
                  output: str | pathlib.Path, task: dict, *,
                  codec: str = 'png', examples_per_shard: int = 512) -> dict:
  """Writes sources in the format of `walt data prepare`.

  Args:
    splits: Split name -> examples with `video`; all with the same classes.
    output: Folder of the dataset.
    task: JSON value that decides the content; equal tasks are not redone.
    codec: One of `codecs.CODECS`.
    examples_per_shard: Examples in one file.

  Returns:
    The manifest.
  """
  output = paths.path(output)
  counts = {split: len(source) for split, source in splits.items()}
  task = dict(format_version=prepare.FORMAT_VERSION, codec=codec,
              split_sizes=counts, versions=prepare.versions()) | task
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
      index: list[tuple] = []
      records = (_record(splits[split][row], codec, index, bar)
                 for row in rows)
      count = shards.write_records(unfinished.part_file(number), records)
      files.write_bytes(
          unfinished.part_file(number, work_items.INDEX),
          example_index.to_bytes(index))
      unfinished.mark_done(number, dict(split=split,
                                        counts=dict(records=count)))
  classes = next(iter(splits.values())).classes
  manifest = dict(
      format=manifest_lib.DATASET_FORMAT, name=prepare.NAME,
      task_sha256=shards.task_sha256(task), **task, classes=list(classes),
      splits={split: dict(num_examples=count)
              for split, count in counts.items()},
      counts=dict(clips=sum(counts.values())), rejected=[], damaged=[])
  # A source gives all of its clips several captions, or none of them.
  if len(next(iter(splits.values()))[0].get('captions', ())) > 1:
    manifest['captions'] = dict(clips_with_several=sum(counts.values()))
  prepare.finish(unfinished, manifest,
                 [unfinished.report(number) for number in range(len(parts))])
  return manifest


def _record(example: dict, codec: str, index: list[tuple], bar) -> bytes:
  clip, label, fps = example['video'], example['label'], example['fps']
  encoded = codecs.encode_clip(clip, codec, quality=100, fps=fps)
  index.append((*clip.shape[:3], fps, label))
  bar.update()
  captions = example.get('captions', [example['caption']])
  return examples.encode(dataset_lib.example_features(
      clip, encoded, label, captions, fps, example['key'],
      list_captions=len(captions) > 1))
