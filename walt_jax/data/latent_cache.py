"""Latents of a whole source, encoded once, and the source that reads them.

A record holds mean and log-variance (not a sample) in bfloat16, so that every
epoch may draw anew; for super-resolution also those of the antialiased
low-resolution clip. Text states are stored once for each distinct caption of
a shard. The cache is bound to its tokenizer by sha256.
"""
from collections.abc import Callable, Iterator, Mapping
import dataclasses
import pathlib

import ml_dtypes
import numpy as np

from walt_jax import errors, progress, types
from walt_jax.data import clips, examples, shards, sources

FORMAT = 'walt_latents'
NAME = 'latents'

# uint8 [B, T, H, W, 3] -> Posterior of [B, 1+t, h, w, c].
Encode = Callable[[np.ndarray], types.Posterior]
# list of N texts -> states [N, L, D] and mask [N, L].
EmbedText = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]

_TEXT = 'text'


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
    text_sha256: Hash of the text encoder behind `embed_text`.
  """
  tokenizer_sha256: str
  num_frames: int = 17
  size: int | tuple[int, int] = 128
  fps: float | None = None
  low_res_factor: int = 0
  images_per_clip: int = 0
  text_sha256: str | None = None


def write_cache(splits: Mapping[str, sources.Source],
                output: str | pathlib.Path, settings: CacheSettings, *,
                encode: Encode, embed_text: EmbedText | None = None,
                batch_size: int = 8, clips_per_shard: int = 1024,
                source_sha256: str = '') -> dict:
  """Encodes every clip of some splits; returns the manifest.

  Interrupted work is taken up at the first unfinished shard; finished work is
  not redone.

  Args:
    splits: Split name -> source.
    output: Folder of the cache.
    settings: What is encoded, and with what.
    encode: The frozen tokenizer's encoder; always called with `batch_size`
      clips (the last ones repeat a clip).
    embed_text: The frozen text encoder; None caches no text.
    batch_size: Clips in a call.
    clips_per_shard: Clips in a file.
    source_sha256: Hash of the sources' manifest, if they have one.
  """
  if (embed_text is None) != (settings.text_sha256 is None):
    raise ValueError('Give embed_text and text_sha256 together.')
  output = pathlib.Path(output)
  task = dict(
      format_version=1, settings=dataclasses.asdict(settings),
      source_sha256=source_sha256,
      splits={split: len(source) for split, source in splits.items()},
      classes=list(next(iter(splits.values())).classes))
  done = shards.finished_manifest(output, task)
  if done is not None:
    return done
  unfinished = shards.Unfinished(output, task)
  parts = [(split, rows) for split, source in splits.items()
           for rows in _chunks(len(source), clips_per_shard)]
  with progress.bar(sum(map(len, splits.values())), 'encode', 'clip') as bar:
    for number, (split, rows) in enumerate(parts):
      if unfinished.is_done(number):
        bar.update(len(rows))
        continue
      work = _Part(splits[split], rows, settings, encode, embed_text,
                   batch_size, bar.update)
      counts = dict(records=shards.write_records(
          unfinished.part_file(number), work.records()))
      if embed_text is not None:
        counts[_TEXT] = shards.write_records(
            unfinished.part_file(number, _TEXT), work.texts())
      unfinished.mark_done(number, dict(counts=counts, shapes=work.shapes))
  entries = {}
  for split, source in splits.items():
    numbers = [n for n, (name, _) in enumerate(parts) if name == split]
    entries[split] = dict(
        num_examples=len(source),
        shards=unfinished.publish(numbers, f'{NAME}-{split}'))
    if embed_text is not None:
      entries[split][_TEXT] = unfinished.publish(
          numbers, f'{_TEXT}-{split}', role=_TEXT)
  manifest = dict(format=FORMAT, task_sha256=shards.digest(task),
                  **(task | dict(splits=entries)),
                  shapes=unfinished.report(0)['shapes'])
  unfinished.finish(manifest)
  return manifest


def _chunks(length: int, size: int) -> list[range]:
  return [range(start, min(length, start + size))
          for start in range(0, length, size)]


def _to_bytes(array: np.ndarray) -> list[bytes]:
  return [np.asarray(array).astype(ml_dtypes.bfloat16).tobytes()]


def _from_bytes(data: bytes, shape: list[int]) -> np.ndarray:
  return np.frombuffer(data, ml_dtypes.bfloat16).reshape(shape).astype(
      np.float32)


class _Part:
  """Encodes one shard; `shapes` is known after `records` and `texts` ran."""

  def __init__(self, source: sources.Source, rows: range,
               settings: CacheSettings, encode: Encode,
               embed_text: EmbedText | None, batch_size: int,
               update: Callable[[int], object]):
    self._source, self._rows, self._settings = source, rows, settings
    self._encode, self._embed_text = encode, embed_text
    self._batch_size, self._update = batch_size, update
    size = settings.size
    self._size = (size, size) if isinstance(size, int) else tuple(size)
    self._captions: dict[str, int] = {}
    self.shapes: dict[str, list[int]] = {}

  def records(self) -> Iterator[bytes]:
    for rows in _batched(self._rows, self._batch_size):
      chosen = [self._source[row] for row in rows]
      latents = self._latents([self._frames(example) for example in chosen])
      for place, example in enumerate(chosen):
        features: dict[str, examples.Feature] = {
            name: _to_bytes(array[place]) for name, array in latents.items()}
        caption = example['caption']
        index = self._captions.setdefault(caption, len(self._captions))
        features |= dict(label=np.array([example['label']], np.int64),
                         caption=[caption.encode()],
                         text_index=np.array([index], np.int64),
                         fps=np.array([example['fps']], np.float32),
                         key=[example['key'].encode('utf-8',
                                                    'surrogateescape')])
        yield examples.encode(features)
      self._update(len(rows))

  def texts(self) -> Iterator[bytes]:
    """The states of each distinct caption, in the order of `text_index`."""
    for captions in _batched(list(self._captions), self._batch_size):
      padded = list(captions) + [captions[-1]] * (
          self._batch_size - len(captions))
      states, mask = (np.asarray(a) for a in self._embed_text(padded))
      self.shapes[_TEXT] = list(states.shape[1:])
      for place in range(len(captions)):
        real = mask[place].astype(bool)
        yield examples.encode(dict(states=_to_bytes(states[place][real]),
                                   mask=real.astype(np.int64)))

  def _frames(self, example: dict) -> np.ndarray:
    encoded = example.get('encoded')
    frames = example['video'] if encoded is None else encoded
    try:
      indices = clips.frame_indices(
          len(frames), example['fps'], self._settings.num_frames,
          self._settings.fps, None)
    except ValueError as error:
      raise errors.UserError(f'clip {example["key"]!r}: {error}') from error
    if encoded is None:
      clip = frames[indices]
    else:
      clip = clips.decode_frames([encoded[index] for index in indices])
    return clips.fit(clip, *self._size)

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
      inputs['low_'] = clips.downsample(pixels, self._settings.low_res_factor)
    for scale, array in inputs.items():
      posterior = self._encode(array)
      found[f'{prefix}{scale}mean'] = np.asarray(posterior.mean)
      if posterior.logvar is not None:
        found[f'{prefix}{scale}logvar'] = np.asarray(posterior.logvar)
    return found


def _batched(items, size: int):
  return [items[start:start + size] for start in range(0, len(items), size)]


class LatentCache:
  """One split of a latent cache, as a source for the pipeline.

  An example has `mean` and `logvar` [1+t, h, w, c] (the latter absent for a
  plain autoencoder), `low_mean`, `low_logvar` with super-resolution,
  `image_mean` [n, h, w, c] .. with images, `text` [L, D] and `text_mask` [L]
  with text, all float32; label, caption, fps and key.
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
    path = pathlib.Path(path)
    self.manifest = sources.read_manifest(path)
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
    self._records = sources.split_shards(path, self.manifest, split)
    self._texts = None
    if _TEXT in self.manifest['shapes']:
      self._texts = sources.split_shards(path, self.manifest, split, _TEXT)
    self._shapes = self.manifest['shapes']
    self.classes = tuple(self.manifest['classes'])

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict:
    features = examples.decode(self._records[index])
    example = dict(label=int(features['label'][0]),
                   caption=features['caption'][0].decode(),
                   fps=float(features['fps'][0]),
                   key=features['key'][0].decode('utf-8', 'surrogateescape'))
    for name, shape in self._shapes.items():
      if name != _TEXT:
        example[name] = _from_bytes(features[name][0], shape)
    if self._texts is not None:
      stored = examples.decode(self._texts.read(
          self._records.shard_of(index), int(features['text_index'][0])))
      mask = stored['mask'].astype(bool)
      length, width = self._shapes[_TEXT]
      example['text'] = np.zeros((length, width), np.float32)
      example['text'][mask] = _from_bytes(stored['states'][0], [-1, width])
      example['text_mask'] = mask
    return example
