"""Readers of what preparation and encoding stored."""
import functools
import json
import pathlib
import random
import re
import shutil

import numpy as np

from benchmarks.fuzz import formats
from benchmarks.fuzz import mutations
from benchmarks.fuzz import reader as reader_lib
from walt_jax.core import types
from walt_jax.data import inspect
from walt_jax.data import latent_cache
from walt_jax.data.sources import moving_digits
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset
from walt_jax.data.storage import example_index
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.data.storage import shards

Reader, Target = reader_lib.Reader, reader_lib.Target

_NAME = 'walt'
_FRAMES, _SIDE = 5, 16


def _clips() -> list[np.ndarray]:
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (_FRAMES, _SIDE, _SIDE, 3), dtype=np.uint8)
          for _ in range(3)]


def _records(codec: str) -> list[bytes]:
  return [dataset.examples.encode(dataset.example_features(
      clip, codecs.encode_clip(clip, codec, 90, 8.0), number,
      ('a dog', 'a cat'), 8.0, f'{number}.mp4', list_captions=True))
          for number, clip in enumerate(_clips())]


def _write_set(folder: pathlib.Path, codec: str = 'jpeg') -> dict:
  """Writes a small prepared set; returns its manifest."""
  folder.mkdir(parents=True, exist_ok=True)
  task = dict(kind='fuzz')
  unfinished = shards.Unfinished(folder, task)
  count = shards.write_records(unfinished.part_file(0), _records(codec))
  unfinished.mark_done(0, dict(counts=dict(records=count)))
  unfinished.write(f'{_NAME}-train.index.npy', example_index.to_bytes(
      [(_FRAMES, _SIDE, _SIDE, 8.0, number) for number in range(count)]))
  manifest = dict(
      format=manifest_lib.DATASET_FORMAT, task_sha256='', codec=codec,
      classes=['a', 'b', 'c'], splits=dict(train=dict(
          num_examples=count, index=f'{_NAME}-train.index.npy',
          shards=unfinished.publish([0], f'{_NAME}-train'))),
      settings=dict(fps=8.0), versions=dict(),
      captions=dict(captions=6, clips_without=0, clips_with_several=3),
      counts=dict(files=3, used=3, rejected=0))
  unfinished.finish(manifest)
  return manifest


def _use(path: pathlib.Path, row: int = 0) -> None:
  """Reads a set as training does: table, an example, its frames."""
  found = dataset.PreparedDataset(path)
  if len(found):
    found.index['num_frames'].max()
    example = found[min(row, len(found) - 1)]
    found.classes[example['label']]
    codecs.read_clip(example, np.arange(2), 8, 8)


def _once(folder: pathlib.Path, write) -> None:
  if not (folder / manifest_lib.MANIFEST).exists():
    shutil.rmtree(folder, ignore_errors=True)
    write(folder)


def _as_written(file: pathlib.Path) -> list[bytes]:
  """What a file of a set held at first, before inputs took its place."""
  seed = file.parent / f'{file.name}.seed'
  if not seed.exists():
    shutil.copy(file, seed)
  return [seed.read_bytes()]


def _manifest(folder: pathlib.Path) -> Target:
  _once(folder, _write_set)
  file = folder / manifest_lib.MANIFEST
  return reader_lib.of_file(file, _as_written(file), lambda _: _use(folder))


def _index(folder: pathlib.Path) -> Target:
  _once(folder, _write_set)
  rows = [(_FRAMES, _SIDE, _SIDE, 8.0, number) for number in range(3)]
  return reader_lib.of_file(
      folder / f'{_NAME}-train.index.npy', [example_index.to_bytes(rows)],
      lambda _: _use(folder))


def _shard(folder: pathlib.Path) -> Target:
  _once(folder, _write_set)
  file, = folder.glob('*.array_record-00000-of-00001')
  return reader_lib.of_file(
      file, _as_written(file),
      lambda _: [_use(folder, row) for row in range(3)])


class _OneRecord:
  """Shards of one record."""

  def __init__(self, data: bytes):
    self._data = data

  def __len__(self) -> int:
    return 1

  def __getitem__(self, index: int) -> bytes:
    return self._data

  def shard_of(self, index: int) -> int:
    return 0

  def start_of(self, shard: int) -> int:
    return 0

  def name_of(self, index: int) -> str:
    return 'shard'

  def read(self, shard: int, index: int) -> bytes:
    return self._data


def _record(codec: str, folder: pathlib.Path) -> Target:
  """An example whose record was changed, and written with a right checksum."""
  _once(folder, functools.partial(_write_set, codec=codec))
  found = dataset.PreparedDataset(folder)

  def read(data: bytes) -> None:
    found._shards = _OneRecord(data)
    example = found[0]
    codecs.read_clip(example, np.arange(2), 8, 8)

  return Target(tuple(_records(codec)), read)


# Latents ---------------------------------------------------------------------


def _encode(pixels: np.ndarray) -> types.Posterior:
  """A stand-in for a causal tokenizer: 4 frames and 8x8 pixels a latent."""
  groups = np.concatenate([pixels[:, :1]] * 3 + [pixels], axis=1)
  b, t, h, w, c = groups.shape
  mean = groups.reshape(b, t // 4, 4, h // 8, 8, w // 8, 8, c).mean((2, 4, 6))
  return types.Posterior(mean=mean / 128 - 1, logvar=-mean / 64)


def _embed(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
  states = np.ones((len(texts), 6, 4), np.float32)
  mask = np.zeros((len(texts), 6), bool)
  mask[:, :3] = True
  return states, mask


_TOKENIZER = 'ab' * 32


def _write_latents(folder: pathlib.Path) -> None:
  latent_cache.write_cache(
      {'train': moving_digits.MovingDigits(num_examples=3, num_frames=5)},
      folder, latent_cache.CacheSettings(
          tokenizer_sha256=_TOKENIZER, num_frames=5, size=(32, 32),
          low_res_factor=2, images_per_clip=2, text_sha256='cd' * 32),
      encode=_encode, text=latent_cache.TextStates(_embed), batch_size=2)


def _open_latents(folder: pathlib.Path) -> latent_cache.LatentCache:
  return latent_cache.LatentCache(folder, tokenizer_sha256=_TOKENIZER)


def _latents_manifest(folder: pathlib.Path) -> Target:
  _once(folder, _write_latents)
  file = folder / manifest_lib.MANIFEST

  def call(_: pathlib.Path):
    found = _open_latents(folder)
    if len(found):
      found[0]

  return reader_lib.of_file(file, _as_written(file), call)


def _latents_shard(which: str, folder: pathlib.Path) -> Target:
  _once(folder, _write_latents)
  file, = folder.glob(f'{which}-train.array_record-00000-of-00001')

  def call(_: pathlib.Path):
    found = _open_latents(folder)
    for row in range(len(found)):
      found[row]

  return reader_lib.of_file(file, _as_written(file), call)


def _latents_record(folder: pathlib.Path) -> Target:
  _once(folder, _write_latents)
  found = _open_latents(folder)
  records = found._records
  seeds = tuple(records[row] for row in range(len(records)))

  def read(data: bytes) -> None:
    found._records = _OneRecord(data)
    found._records.shard_of(0)
    found[0]

  return Target(seeds, read)


def _text_record(folder: pathlib.Path) -> Target:
  _once(folder, _write_latents)
  found = _open_latents(folder)
  seeds = tuple(found._texts[row] for row in range(len(found._texts)))

  def read(data: bytes) -> None:
    found._texts = _OneRecord(data)
    found[0]

  return Target(seeds, read)


def _inspected(folder: pathlib.Path) -> Target:
  _once(folder, _write_set)
  file = folder / manifest_lib.MANIFEST
  return reader_lib.of_file(file, _as_written(file),
                            lambda _: inspect.describe(folder))


def _unfinished(folder: pathlib.Path) -> Target:
  """The reports of the parts of a set that is being written."""
  folder.mkdir(parents=True, exist_ok=True)
  task = dict(kind='fuzz')

  def read(data: bytes) -> None:
    file = folder / shards.UNFINISHED / '000000.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    unfinished = shards.Unfinished(folder, task)
    (unfinished.part_file(0)).write_bytes(b'x')
    unfinished.publish([0], 'walt-train')

  return Target((json.dumps(dict(counts=dict(records=3), shapes=dict(
      mean=[2, 4, 4, 3]))).encode(),), read)


def _shard_bytes(rng: random.Random, data: bytes) -> bytes:
  """Changes of a shard: of what it holds, seldom of the zeros that fill it."""
  if rng.random() < 0.1:
    return mutations.edits(rng, data)
  written = _written(data)
  start, end = rng.choice(written[1:] if rng.random() < 0.8 else written)
  return data[:start] + mutations.edits(rng, data[start:end]) + data[end:]


@functools.lru_cache
def _written(data: bytes) -> list[tuple[int, int]]:
  """Where a shard is not filled with zeros; its signature comes first."""
  found = [(0, 64)]
  for match in re.finditer(rb'[^\0](?:\0{0,15}[^\0])*', data[64:]):
    found.append((64 + match.start(), 64 + match.end()))
  return found


def _has_signature(data: bytes) -> bool:
  """The first 64 bytes of a Riegeli file are always the same."""
  return data[:64] == _SIGNATURE


_SIGNATURE = bytes.fromhex(
    '83af70d10d884a3f00000000000000004000000000000000'
    '91bac23c9287e1a90000000000000000e19f13c0e9b1c372'
    '73000000000000000000000000000000')

READERS = (
    Reader('set.manifest', _manifest, mutations.JSON, mutations.is_json),
    Reader('set.index', _index, formats.npy, formats.is_npy),
    Reader('set.shard', _shard, _shard_bytes, _has_signature),
    Reader('set.record_jpeg', functools.partial(_record, 'jpeg'),
           formats.PROTOBUF, formats.is_message),
    Reader('set.record_png', functools.partial(_record, 'png'),
           formats.PROTOBUF, formats.is_message),
    Reader('set.record_h264', functools.partial(_record, 'h264'),
           formats.PROTOBUF, formats.is_message),
    Reader('set.part_report', _unfinished, mutations.JSON, mutations.is_json),
    Reader('latents.manifest', _latents_manifest, mutations.JSON,
           mutations.is_json),
    Reader('latents.shard', functools.partial(_latents_shard, 'latents'),
           _shard_bytes, _has_signature),
    Reader('latents.text_shard', functools.partial(_latents_shard, 'text'),
           _shard_bytes, _has_signature),
    Reader('latents.record', _latents_record, formats.PROTOBUF,
           formats.is_message),
    Reader('latents.text_record', _text_record, formats.PROTOBUF,
           formats.is_message),
)
