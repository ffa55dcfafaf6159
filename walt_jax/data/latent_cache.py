"""Latents of a whole source, encoded once, and the source that reads them.

A record holds mean and log-variance (not a sample) in bfloat16, so that every
epoch may draw anew; for super-resolution also those of the antialiased
low-resolution clip. Text states are stored once for each distinct caption of
a shard. The cache is bound to its tokenizer by sha256.
"""
from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import functools
import itertools
import pathlib
import time
from typing import Any

import ml_dtypes
import numpy as np

from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import pixels as pixels_lib
from walt_jax.core import progress
from walt_jax.core import threads
from walt_jax.core import types
from walt_jax.data.sources import source as source_lib
from walt_jax.data.storage import caption_counts
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import examples
from walt_jax.data.storage import frames as frames_lib
from walt_jax.data.storage import heartbeats
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.data.storage import shards
from walt_jax.data.stream import filters

FORMAT = manifest_lib.LATENTS_FORMAT
NAME = 'latents'

# uint8 [B, T, H, W, 3] -> Posterior of [B, 1+t, h, w, c].
Encode = Callable[[np.ndarray], types.Posterior]
# list of N texts -> states [N, L, D] and mask [N, L].
EmbedText = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]

_TEXT = 'text'
_POLL_SECONDS = 1.0
_THREADS = 4  # That read clips.


@dataclasses.dataclass(frozen=True)
class TextStates:
  """A frozen text encoder.

  Attributes:
    embed: Texts to their states and mask.
    limit: What it reads, to count captions that it cuts; None counts none.
  """
  embed: EmbedText
  limit: caption_counts.CaptionLimit | None = None


@dataclasses.dataclass(frozen=True)
class CacheSettings:
  """What is encoded.

  Attributes:
    tokenizer_sha256: Hash of the tokenizer behind `encode`.
    num_frames: Frames a clip.
    size: Pixels a side, or (height, width).
    fps: Frames a second; None takes neighbouring frames.
    low_res_factor: Also encodes the clip downsampled by this; 0 does not.
    images_per_clip: Frames of each clip that are also encoded on their own,
      for image rows; 0 leaves the clip's first latent frame for that.
    text_sha256: Hash of the text encoder whose states are cached.
  """
  tokenizer_sha256: str
  num_frames: int = 17
  size: int | tuple[int, int] = 128
  fps: float | None = None
  low_res_factor: int = 0
  images_per_clip: int = 0
  text_sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class Processes:
  """Those that write one cache, which share its folder.

  Attributes:
    number: This one's, from 0.
    count: How many there are.
    silence_seconds: Time without a sign of life after which one is lost.
    start_seconds: Time for the first sign.
    meet: Returns when all of them are there; nothing where nobody joined
      them.
  """
  number: int = 0
  count: int = 1
  silence_seconds: float = 60.0
  start_seconds: float = 300.0
  meet: Callable[[], None] = lambda: None


def write_cache(splits: Mapping[str, source_lib.Source],
                output: str | pathlib.Path, settings: CacheSettings, *,
                encode: Encode, text: TextStates | None = None,
                batch_size: int = 8, clips_per_shard: int = 1024,
                source_sha256: str = '',
                processes: Processes = Processes()) -> dict | None:
  """Encodes every clip of some splits; returns the manifest.

  Interrupted work is taken up at the first unfinished shard; finished work is
  not redone. Clips that are too short are named in the manifest.

  Args:
    splits: Split name -> source.
    output: Folder of the cache.
    settings: What is encoded, and with what.
    encode: The frozen tokenizer's encoder; always called with `batch_size`
      clips (the last ones repeat a clip).
    text: The frozen text encoder; None caches no text.
    batch_size: Clips in a call.
    clips_per_shard: Clips in a file.
    source_sha256: Hash of the sources' manifest, if they have one.
    processes: Share the shards; the first waits for the others and writes
      the manifest, the others return None.

  Raises:
    errors.UserError: No clip is long enough, `output` holds other work, or a
      process is lost, which is named.
  """
  if (text is None) != (settings.text_sha256 is None):
    raise ValueError('Give text and text_sha256 together.')
  output = paths.path(output)
  members = {split: _members(source, settings)
             for split, source in splits.items()}
  task = dict(
      format_version=1, settings=dataclasses.asdict(settings),
      source_sha256=source_sha256,
      splits={split: len(own) for split, own in members.items()},
      classes=list(next(iter(splits.values())).classes))
  done = shards.finished_manifest(output, task)
  if done is not None:
    return done
  number, count = processes.number, processes.count
  unfinished = shards.Unfinished(output, task, alone=count == 1)
  processes.meet()
  parts = [(split, rows) for split, own in members.items()
           for rows in _chunks(own, clips_per_shard)]
  own_parts = range(number, len(parts), count)
  unfinished.remove_partial_files(own_parts)
  encoded = functools.partial(
      _encode_parts, splits, parts, own_parts, unfinished, settings,
      encode=encode, text=text, batch_size=batch_size)
  if number:
    with heartbeats.beating(
        unfinished.directory, number, processes.silence_seconds):
      encoded()
    return None
  encoded()
  _wait_for_all(unfinished, len(parts), processes)
  entries = {}
  for split, own in members.items():
    numbers = [n for n, (name, _) in enumerate(parts) if name == split]
    entries[split] = dict(
        num_examples=len(own),
        shards=unfinished.publish(numbers, f'{NAME}-{split}'))
    if text is not None:
      entries[split][_TEXT] = unfinished.publish(
          numbers, f'{_TEXT}-{split}', role=_TEXT)
  manifest = dict(
      format=FORMAT, task_sha256=shards.task_sha256(task),
      **(task | dict(splits=entries)), shapes=unfinished.report(0)['shapes'],
      captions=caption_counts.total(
          unfinished.report(part).get('captions', {})
          for part in range(len(parts))),
      left_out={split: _keys_left_out(source, members[split])
                for split, source in splits.items()})
  if text is not None and text.limit is not None:
    manifest['caption_limit'] = text.limit.describe()
  unfinished.finish(manifest)
  return manifest


def _encode_parts(splits, parts, own_parts: range, unfinished, settings, *,
                  encode: Encode, text: TextStates | None,
                  batch_size: int) -> None:
  """Encodes those of a process's parts that are not done."""
  total = sum(len(parts[part][1]) for part in own_parts)
  with progress.bar(total, 'encode', 'clip') as bar:
    for part in own_parts:
      split, rows = parts[part]
      if unfinished.is_done(part):
        bar.update(len(rows))
        continue
      work = _Part(splits[split], rows, settings, encode, text,
                   batch_size, bar.update)
      counts = dict(records=shards.write_records(
          unfinished.part_file(part), work.records()))
      if text is not None:
        counts[_TEXT] = shards.write_records(
            unfinished.part_file(part, _TEXT), work.texts())
      unfinished.mark_done(part, dict(
          counts=counts, shapes=work.shapes, captions=work.counts.report()))


def _members(source: source_lib.Source, settings: CacheSettings) -> np.ndarray:
  """Indices of the clips that are long enough."""
  try:
    found = filters.long_enough(source, settings.num_frames, settings.fps, 1)
  except ValueError as error:
    raise errors.UserError(f'{error} Choose a smaller --num_frames.') from error
  return np.arange(len(source)) if found is None else found


def _keys_left_out(source: source_lib.Source, members: np.ndarray) -> list[str]:
  rest = np.setdiff1d(np.arange(len(source)), members, assume_unique=True)
  return [source[int(row)]['key'] for row in rest]


def _wait_for_all(unfinished: shards.Unfinished, count: int,
                  processes: Processes) -> None:
  """Returns when the other processes have done their parts, too.

  Raises:
    errors.UserError: One of them is lost.
  """
  watch = heartbeats.Watch(
      unfinished.directory, seconds=processes.silence_seconds,
      start_seconds=processes.start_seconds)
  with progress.bar(count, 'wait for other processes', 'shard') as bar:
    while True:
      done = {part for part in unfinished.present('json') if part < count}
      bar.update(len(done) - bar.n)
      missing = sorted(set(range(count)) - done)
      if not missing:
        return
      for other in sorted({part % processes.count for part in missing}):
        why = watch.silence(other) if other else ''
        if why:
          raise errors.UserError(
              f'process {other} of {processes.count} {why}, and shard '
              f'{next(p for p in missing if p % processes.count == other)} of '
              f'{count} of {str(unfinished.output)!r} is missing (is it one '
              'folder for all?); run the same command on every host again, '
              'which continues at the unfinished shards')
      time.sleep(_POLL_SECONDS)


def _chunks(members: np.ndarray, size: int) -> list[np.ndarray]:
  return [members[start:start + size]
          for start in range(0, len(members), size)]


def _to_bytes(array: np.ndarray) -> list[bytes]:
  return [np.asarray(array).astype(ml_dtypes.bfloat16).tobytes()]


def _from_bytes(data: bytes, shape: list[int]) -> np.ndarray:
  return np.frombuffer(data, ml_dtypes.bfloat16).reshape(shape).astype(
      np.float32)


class _Part:
  """Encodes one shard; `shapes` is known after `records` and `texts` ran."""

  def __init__(self, source: source_lib.Source, rows: np.ndarray,
               settings: CacheSettings, encode: Encode,
               text: TextStates | None, batch_size: int,
               update: Callable[[int], object]):
    self._source, self._rows, self._settings = source, rows, settings
    self._encode, self._text = encode, text
    self._batch_size, self._update = batch_size, update
    size = settings.size
    self._size = (size, size) if isinstance(size, int) else (size[0], size[1])
    self._captions: dict[str, int] = {}
    self.counts = caption_counts.CaptionCounts(text.limit if text else None)
    self.shapes: dict[str, list[int]] = {}

  def records(self) -> Iterator[bytes]:
    # Reading continues while a batch is encoded.
    loaded = threads.map_ahead(self._load, self._rows.tolist(),
                               threads=_THREADS, ahead=2 * self._batch_size)
    for batch in _batched(loaded, self._batch_size):
      chosen = [example for example, _ in batch]
      latents = self._latents([frames for _, frames in batch])
      for place, example in enumerate(chosen):
        features: dict[str, examples.Feature] = {
            name: _to_bytes(array[place]) for name, array in latents.items()}
        features |= dict(label=np.array([example['label']], np.int64),
                         fps=np.array([example['fps'] or 0], np.float32),
                         key=[example['key'].encode('utf-8',
                                                    'surrogateescape')])
        features |= self._said(example)
        yield examples.encode(features)
      self._update(len(batch))

  def _said(self, example: dict) -> dict[str, examples.Feature]:
    """The features of an example's captions."""
    captions = example.get('captions', (example['caption'],))
    self.counts.add(captions)
    places = [self._captions.setdefault(caption, len(self._captions))
              for caption in captions]
    said: dict[str, examples.Feature] = dict(
        caption=[captions[0].encode()],
        text_index=np.array(places, np.int64))
    if len(captions) > 1:
      said['captions'] = [caption.encode() for caption in captions]
    return said

  def texts(self) -> Iterator[bytes]:
    """The states of each distinct caption, in the order of `text_index`."""
    if self._text is None:
      return
    for captions in _batched(list(self._captions), self._batch_size):
      padded = captions + [captions[-1]] * (
          self._batch_size - len(captions))
      states, mask = (np.asarray(a) for a in self._text.embed(padded))
      self.shapes[_TEXT] = list(states.shape[1:])
      for place in range(len(captions)):
        real = mask[place].astype(bool)
        yield examples.encode(dict(states=_to_bytes(states[place][real]),
                                   mask=real.astype(np.int64)))

  def _load(self, row: int) -> tuple[dict, np.ndarray]:
    """An example, and its clip."""
    example = self._source[row]
    try:
      indices = frames_lib.frame_indices(
          codecs.num_frames(example), example['fps'],
          self._settings.num_frames, self._settings.fps, None)
    except ValueError as error:
      raise errors.UserError(f'clip {example["key"]!r}: {error}') from error
    return example, codecs.read_clip(example, indices, *self._size)

  def _latents(self, videos: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays [B, ..] of one batch of clips."""
    padded = videos + [videos[-1]] * (self._batch_size - len(videos))
    pixels = np.stack(padded)
    found = self._posterior('', pixels)
    count = self._settings.images_per_clip
    if count:
      places = np.linspace(0, pixels.shape[1] - 1, count).round().astype(int)
      singles = [self._posterior('image_', pixels[:, place:place + 1])
                 for place in places]
      for name in singles[0]:
        found[name] = np.stack([single[name] for single in singles], axis=1)
        found[name] = found[name][:, :, 0]  # [B, count, h, w, c].
    for name, array in found.items():
      self.shapes[name] = list(array.shape[1:])
    return found

  def _posterior(self, prefix: str, pixels: np.ndarray
                 ) -> dict[str, np.ndarray]:
    found = {}
    inputs = {'': pixels}
    if self._settings.low_res_factor:
      inputs['low_'] = pixels_lib.downsample(
          pixels, self._settings.low_res_factor)
    for scale, array in inputs.items():
      posterior = self._encode(array)
      found[f'{prefix}{scale}mean'] = np.asarray(posterior.mean)
      if posterior.logvar is not None:
        found[f'{prefix}{scale}logvar'] = np.asarray(posterior.logvar)
    return found


def _batched(items: Iterable, size: int) -> Iterator[list]:
  remaining = iter(items)
  while batch := list(itertools.islice(remaining, size)):
    yield batch


class LatentCache:
  """One split of a latent cache, as a source for the pipeline.

  An example has `mean` and `logvar` [1+t, h, w, c] (the latter absent for a
  plain autoencoder), `low_mean`, `low_logvar` with super-resolution,
  `image_mean` [n, h, w, c] .. with images, all float32; label, caption, fps
  and key. With text, it has `text` [L, D], float32, and `text_mask` [L]; where
  there are several `captions`, `read_text(n)` in their place, which reads both
  for caption n.
  """

  def __init__(self, path: str | pathlib.Path, split: str = 'train', *,
               tokenizer_sha256: str, text_sha256: str | None = None):
    """Opens a cache.

    Args:
      path: Its folder.
      split: Which clips.
      tokenizer_sha256: The tokenizer that the latents must come from.
      text_sha256: The text encoder that the states must come from; None
        takes the cache without asking.

    Raises:
      errors.UserError: It was made by another tokenizer or text encoder.
    """
    path = paths.path(path)
    self.manifest = manifest_lib.read_manifest(path)
    if self.manifest.get('format') != FORMAT:
      raise errors.UserError(
          f'{str(path)!r} is not a latent cache: make one with `walt data '
          'prepare --latents --workdir TOKENIZER`')
    settings = self.manifest['settings']
    for what, wanted, found in (
        ('tokenizer', tokenizer_sha256, settings['tokenizer_sha256']),
        ('text encoder', text_sha256, settings['text_sha256'])):
      if wanted is not None and wanted != found:
        raise errors.UserError(
            f'the latent cache {str(path)!r} was made by {what} '
            f'{str(found)[:12]}, not by {wanted[:12]}: encode it again with '
            '`walt data prepare --latents --workdir TOKENIZER`')
    self._records = dataset_lib.split_shards(path, self.manifest, split)
    self._texts = None
    if _TEXT in self.manifest['shapes']:
      self._texts = dataset_lib.split_shards(path, self.manifest, split, _TEXT)
      if self._texts.num_shards != self._records.num_shards:
        raise errors.UserError(
            f'the latent cache {str(path)!r} has {self._records.num_shards} '
            f'shards of latents and {self._texts.num_shards} of texts: its '
            'manifest is damaged, encode it again')
    self._rate = settings['fps']  # None: that of each clip's source.
    self._shapes = self.manifest['shapes']
    self.classes = tuple(self.manifest['classes'])

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict:
    record = self._records[index]
    with dataset_lib.explained(self._records, index):
      features = examples.decode(record)
      example = self._example(features)
      places = features['text_index'].tolist()
    if self._texts is not None:
      read = functools.partial(self._read_text, self._records.shard_of(index),
                               places)
      if 'captions' in example:
        example['read_text'] = read
      else:
        example['text'], example['text_mask'] = read(0)
    return example

  def _example(self, features: dict[str, Any]) -> dict[str, Any]:
    """What a record says, but for text states."""
    example: dict[str, Any] = dict(
        label=dataset_lib.label_of(features, self.classes),
        caption=features['caption'][0].decode(),
        fps=self._rate or dataset_lib.rate_of(features) or None,
        key=features['key'][0].decode('utf-8', 'surrogateescape'))
    for name, shape in self._shapes.items():
      if name != _TEXT:
        example[name] = _from_bytes(features[name][0], shape)
    if 'captions' in features:
      example['captions'] = tuple(
          caption.decode() for caption in features['captions'])
    return example

  def _read_text(self, shard: int, places: list[int], number: int
                 ) -> tuple[np.ndarray, np.ndarray]:
    """Text states [L, D] and mask [L] of one of an example's captions."""
    assert self._texts is not None
    with dataset_lib.explained(self._texts, self._texts.start_of(shard)):
      record = self._texts.read(shard, places[number])
      stored = examples.decode(record)
      mask = stored['mask'].astype(bool)
      length, width = self._shapes[_TEXT]
      states = np.zeros((length, width), np.float32)
      states[mask] = _from_bytes(stored['states'][0], [-1, width])
    return states, mask
