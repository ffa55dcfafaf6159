"""Data streams from the `data` section of a config."""
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
import itertools
import logging

import jax
import numpy as np

from walt_jax.builders import data_hints
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.core import conditions
from walt_jax.core import errors
from walt_jax.core import extensions
from walt_jax.core import types
from walt_jax.data import latent_cache
from walt_jax.data.sources import crops
from walt_jax.data.sources import mixture
from walt_jax.data.sources import moving_digits
from walt_jax.data.sources import open
from walt_jax.data.sources import rates
from walt_jax.data.sources import source as source_lib
from walt_jax.data.sources.stage_play import source as stage_play
from walt_jax.data.stream import batches
from walt_jax.parallel import multihost
from walt_jax.text import limits

TRAIN, HELD_OUT = 'train', 'heldout'


@dataclasses.dataclass(frozen=True)
class Data:
  """One split of a config's data.

  Attributes:
    videos: Source of video rows.
    images: Source of image rows that do not show frames of the videos.
    classes: Names by label id, of both.
    split: 'train' or 'heldout'.
  """
  videos: source_lib.Source
  images: source_lib.Source | None
  classes: tuple[str, ...]
  split: str

  def __len__(self) -> int:
    return len(self.videos)


def source(config: schema.Experiment, split: str,
           tokenizer_sha256: str = '',
           text_sha256: str | None = None) -> Data:
  """Opens one split of the config's data.

  Args:
    config: Config whose `data` section is read.
    split: 'train' or 'heldout'.
    tokenizer_sha256: The tokenizer that a latent cache must come from.
    text_sha256: The text encoder it must come from, if any.

  Raises:
    UserError: On data that are missing, or a cache of another tokenizer.
  """
  data = config.data
  if data.name == 'moving_digits':
    digits = _moving_digits(data, split)
    return Data(digits, None, digits.classes, split)
  if data.name == stage_play.NAME:
    play = _stage_play(data, split)
    return Data(play, None, play.classes, split)
  open_one = open.open_dataset
  if extensions.is_name(data.name):
    open_one = extensions.load(
        data.name, source_lib.Source, 'config key data.name')
    if not data.path:
      own = open_one('', split)
      return Data(own, None, own.classes, split)
  elif data.name == 'latents':
    assert isinstance(config, schema.DenoiserExperiment)
    open_one = functools.partial(
        _open_cache, config, tokenizer_sha256, text_sha256)
  data_hints.check_present(config)
  videos = open.open_source(data.path, split, data.weights,
                               open_one=open_one)
  if not data.image_path:
    return Data(videos, None, videos.classes, split)
  images = open.open_source(data.image_path, split, open_one=open_one)
  classes = mixture.joint_classes([videos, images])
  return Data(mixture.Relabelled(videos, classes),
              mixture.Relabelled(images, classes), classes, split)


def _open_cache(config: schema.DenoiserExperiment, tokenizer_sha256: str,
                text_sha256: str | None, path: str, split: str
                ) -> latent_cache.LatentCache:
  """Opens a cache that holds what the config trains on."""
  cache = latent_cache.LatentCache(
      path, split, tokenizer_sha256=tokenizer_sha256, text_sha256=text_sha256)
  latents = config.latents
  wanted = [latents.frames, latents.height, latents.width, latents.channels]
  found = cache.manifest['shapes']
  images = path in open.names_in(config.data.image_path)
  if images:  # One frame of a row each; the cache holds at least that.
    wanted[0] = found['mean'][0]
  if found['mean'] != wanted:
    raise errors.UserError(
        f'the latent cache {path!r} holds latents of '
        f'{data_hints.shape_text(found["mean"])}, but config section latents '
        f'says {data_hints.shape_text(wanted)}; make a cache with: '
        f'{data_hints.command(config)}')
  counts = cache.manifest.get('captions', {})
  if config.text.name and counts.get('cut'):
    logging.getLogger('walt_jax').warning('%s: %s.', path, limits.describe(
        counts['cut'], counts['captions'],
        cache.manifest['caption_limit']['max_tokens'], 'captions'))
  for needed, name in ((config.model.low_res_factor, 'low_mean'),
                       (config.text.name, 'text')):
    if needed and name not in found:
      raise errors.UserError(
          f'the latent cache {path!r} holds no '
          f'{"text states" if name == "text" else "low-resolution latents"}; '
          f'make one with: {data_hints.command(config)}')
  return cache


def _moving_digits(data, split: str) -> source_lib.Source:
  """Clips as they are and, for `crop_sizes`, pieces of larger renders."""

  def rendered(size, count):
    return moving_digits.MovingDigits(
        split=split, num_examples=count, size=size,
        num_frames=data.num_frames, difficulty=data.difficulty,
        labels=data.labels)

  try:
    whole = rendered(data.height, data.num_clips)
    parts = [crops.Crops(rendered(size, data.num_clips // 4), data.height,
                         data.width)
             for size in data.crop_sizes if split == TRAIN]
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e
  return source_lib.Concatenation([whole, *parts])


def _stage_play(data: schema.Data, split: str) -> source_lib.Source:
  try:
    return stage_play.StagePlay(
        split=split, num_examples=data.num_clips, height=data.height,
        width=data.width, num_frames=data.num_frames,
        difficulty=data.difficulty)
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e


def train_batches(config: schema.Experiment, mesh: jax.sharding.Mesh,
                  train: Data, tokenize: batches.Tokenize | None
                  ) -> Callable[[int], Iterator[types.Batch]]:
  """Returns `start(n)`: this process's rows of batches n, n + 1, .."""
  return _batches(config, mesh, train, tokenize, shuffle=True)


def clip_rates(config: schema.Experiment,
               train: Data) -> rates.ClipRates | None:
  """Frames a second of the clips that are trained on; None for images.

  Raises:
    UserError: A latent cache of clips at another rate than the config says.
  """
  data = config.data
  if data.num_frames == 1 or data.image_rows == data.batch_size:
    return None
  if data.frame_rate and data.name != 'latents':
    return rates.of_rate(data.frame_rate, data.strides)
  found = rates.of_source(train.videos, data.strides)
  wanted = data.frame_rate and rates.of_rate(data.frame_rate)
  if found and wanted and not (found | wanted).is_one:
    raise errors.UserError(
        f'the latents in {data.path!r} are of clips at {found} frames/s, but '
        f'config key data.frame_rate is {wanted}; make a cache with: '
        f'{data_hints.command(config)}')
  return found


def held_out_batches(config: schema.Experiment, mesh: jax.sharding.Mesh,
                     held_out: Data, tokenize: batches.Tokenize | None
                     ) -> list[types.Batch]:
  """The first `train.eval_batches` held-out batches, always the same.

  All are of `height` x `width`, so that figures can be compared.
  """
  if not config.train.eval_every or not config.train.eval_batches:
    return []
  start = _batches(config, mesh, held_out, tokenize, shuffle=False)
  return list(itertools.islice(start(0), config.train.eval_batches))


def shapes(config: schema.Experiment) -> tuple[tuple[int, int], ...]:
  """All (height, width) that a training batch may have.

  Raises:
    UserError: The aspect buckets are none, or the stage has one shape.
  """
  return _options(config, shuffle=True).shapes


def _batches(config, mesh, data: Data, tokenize, *, shuffle: bool):
  if not len(data):
    raise errors.UserError(
        f'the {data.split} split of {config.data.path!r} is empty; prepare '
        'the data with --heldout 0.1, or train with '
        '--config.train.eval_every=0')
  options = _options(config, shuffle=shuffle)
  _check_columns(config, data)
  try:
    return batches.make_batches(
        data.videos, options, image_source=data.images,
        tokenize=None if config.data.name == 'latents' else tokenize,
        rows=functools.partial(multihost.process_rows, mesh))
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e


def _options(config: schema.Experiment, *, shuffle: bool
             ) -> batches.BatchOptions:
  """What a global batch holds, in training or in evaluation."""
  data = config.data
  try:
    return batches.BatchOptions(
        video_rows=data.batch_size - data.image_rows,
        image_rows=data.image_rows, num_frames=data.num_frames,
        images_per_row=_images_per_row(config),
        size=(data.height, data.width), buckets=data.buckets if shuffle else (),
        fps=data.frame_rate or None, strides=data.strides if shuffle else (1,),
        flip=data.flip, random_crop=data.random_crop, shuffle=shuffle,
        columns=tuple(own.column for own in _own_conditions(config)),
        seed=config.seed, num_workers=data.num_workers if shuffle else 0)
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e


def _own_conditions(config: schema.Experiment
                    ) -> tuple[type[conditions.Condition], ...]:
  """The conditions that the examples must have columns for."""
  return (networks.own_conditions(config.model.conditions)
          if isinstance(config, schema.DenoiserExperiment) else ())


def _check_columns(config: schema.Experiment, data: Data) -> None:
  """Looks whether the first example has what own conditions read."""
  for own in _own_conditions(config):
    for source in filter(None, (data.videos, data.images)):
      example = source[0]
      if own.column not in example:
        raise errors.UserError(
            f'config key model.conditions: {own.__name__} reads '
            f'{own.column!r}, which the examples of {config.data.name!r} lack; '
            f'they have {", ".join(sorted(example))}')
      shape = np.shape(example[own.column])
      if shape != tuple(own.shape):
        raise errors.UserError(
            f'config key model.conditions: {own.__name__} takes values of '
            f'shape {tuple(own.shape)}, but {own.column!r} of the data has '
            f'{shape}; correct one of them')


def _images_per_row(config) -> int:
  """A row of images has as many as a video has latent frames."""
  return (config.latents.frames
          if isinstance(config, schema.DenoiserExperiment) else 1)


def check_classes(config: schema.DenoiserExperiment,
                  names: tuple[str, ...]) -> None:
  """Raises UserError when the data have more classes than the model."""
  known = config.model.num_classes
  if known and len(names) > known:
    raise errors.UserError(
        f'the data have {len(names)} classes, but config key '
        f'model.num_classes is {known}; set it to {len(names)}')


def some_pixels(config: schema.Experiment, count: int = 8) -> np.ndarray:
  """A few training clips uint8 [count, T, H, W, 3]."""
  clips = source(config, TRAIN)
  try:
    start = batches.make_batches(clips.videos, batches.BatchOptions(
        video_rows=count, num_frames=config.data.num_frames,
        size=(config.data.height, config.data.width),
        fps=config.data.frame_rate or None, shuffle=False))
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e
  return next(start(0)).videos.pixels


@dataclasses.dataclass(frozen=True)
class HeldOutClips:
  """The first held-out examples, as training would see them.

  Attributes:
    pixels: uint8 [N, T, H, W, 3], or None where the data are latents.
    labels: Class of each.
    captions: Caption of each.
  """
  pixels: np.ndarray | None
  labels: tuple[str, ...]
  captions: tuple[str, ...]


def held_out_clips(config: schema.Experiment, held_out: Data,
                   count: int) -> HeldOutClips:
  """Reads at most `count` held-out examples, the same on every process."""
  count = min(count, len(held_out))
  options = dataclasses.replace(
      _options(config, shuffle=False), video_rows=count, image_rows=0)
  try:
    start = batches.make_batches(
        held_out.videos, options, tokenize=_as_bytes)
    rows = next(start(0)).videos
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e
  captions = tuple(
      bytes(ids[0, :int(mask.sum())].astype(np.uint8)).decode()
      for ids, mask in zip(rows.text_ids, rows.text_mask, strict=True))
  return HeldOutClips(
      rows.pixels, tuple(held_out.classes[i] for i in rows.label[:, 0]),
      captions)


def _as_bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Captions as their bytes in UTF-8, so that they pass through a batch."""
  encoded = [text.encode() for text in texts]
  length = max(map(len, encoded))
  ids = np.array([list(e.ljust(length, b'\0')) for e in encoded], np.int32)
  mask = np.array([[True] * len(e) + [False] * (length - len(e))
                   for e in encoded])
  return ids.reshape(len(texts), length), mask.reshape(len(texts), length)
