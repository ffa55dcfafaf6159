"""Data streams from the `data` section of a config."""
from collections.abc import Callable, Iterator
import functools
import itertools

import jax
from ml_collections import config_dict
import numpy as np

from walt_jax import errors
from walt_jax import types
from walt_jax.builders import config as config_lib
from walt_jax.data import crops
from walt_jax.data import latent_cache
from walt_jax.data import moving_digits
from walt_jax.data import pipeline
from walt_jax.data import sources
from walt_jax.parallel import multihost

# Where data come from: the generator of moving digits, clips that
# `walt data prepare` wrote, or a cache of their latents.
NAMES = ('moving_digits', 'clips', 'latents')
TRAIN, HELD_OUT = 'train', 'heldout'

_KEYS = {
    'name', 'path', 'num_frames', 'height', 'width', 'frame_rate',
    'batch_size', 'image_rows', 'flip', 'random_crop', 'num_workers'}
_DIGIT_KEYS = {'difficulty', 'crop_sizes', 'num_clips', 'labels'}


def source(config: config_dict.ConfigDict, split: str,
           tokenizer_sha256: str = '',
           text_sha256: str | None = None) -> sources.Source:
  """Opens one split of the config's data.

  Args:
    config: Its `data` section is read.
    split: 'train' or 'heldout'.
    tokenizer_sha256: The tokenizer that a latent cache must come from.
    text_sha256: The text encoder it must come from, if any.

  Raises:
    UserError: On unknown keys, data that are missing, or a cache of another
      tokenizer.
  """
  data = config.data
  if data.name not in NAMES:
    raise errors.UserError(
        f'config key data.name is {data.name!r}; choose one of '
        f'{", ".join(NAMES)}')
  digits = data.name == 'moving_digits'
  config_lib.check_keys(data, _KEYS | (_DIGIT_KEYS if digits else set()),
                        'data')
  if digits:
    return _moving_digits(data, split)
  if not data.path:
    raise errors.UserError(
        'config key data.path is empty; give prepared data '
        '(--config.data.path=DIR), made with: walt data prepare --input '
        'VIDEOS --output DIR')
  if data.name == 'clips':
    return sources.PreparedDataset(data.path, split)
  return latent_cache.LatentCache(
      data.path, split, tokenizer_sha256=tokenizer_sha256,
      text_sha256=text_sha256)


def _moving_digits(data, split: str) -> sources.Source:
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
  return sources.Concatenation([whole, *parts])


def train_batches(config: config_dict.ConfigDict, mesh: jax.sharding.Mesh,
                  train_source: sources.Source,
                  tokenize: pipeline.Tokenize | None
                  ) -> Callable[[int], Iterator[types.Batch]]:
  """Returns `start(n)`: this process's rows of batches n, n + 1, .."""
  return _batches(config, mesh, train_source, tokenize, shuffle=True)


def held_out_batches(config: config_dict.ConfigDict, mesh: jax.sharding.Mesh,
                     held_out: sources.Source,
                     tokenize: pipeline.Tokenize | None
                     ) -> list[types.Batch]:
  """The first `train.eval_batches` held-out batches, always the same."""
  start = _batches(config, mesh, held_out, tokenize, shuffle=False)
  return list(itertools.islice(start(0), config.train.eval_batches))


def _batches(config, mesh, from_source, tokenize, *, shuffle: bool):
  data = config.data
  cached = data.name == 'latents'
  try:
    options = pipeline.BatchOptions(
        video_rows=data.batch_size - data.image_rows,
        image_rows=data.image_rows, num_frames=data.num_frames,
        images_per_row=_images_per_row(config),
        size=(data.height, data.width), fps=data.frame_rate or None,
        flip=data.flip, random_crop=data.random_crop, shuffle=shuffle,
        seed=config.seed, num_workers=data.num_workers if shuffle else 0)
    if cached and (data.flip or data.random_crop):
      raise ValueError('cached latents cannot be flipped or cropped; set '
                       'data.flip and data.random_crop to False')
    return pipeline.make_batches(
        from_source, options, tokenize=None if cached else tokenize,
        rows=functools.partial(multihost.process_rows, mesh))
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e


def _images_per_row(config) -> int:
  """A row of images has as many as a video has latent frames."""
  return config.latents.frames if 'latents' in config else 1


def check_classes(config: config_dict.ConfigDict,
                  names: tuple[str, ...]) -> None:
  """Raises UserError when the data have more classes than the model."""
  known = config.model.num_classes
  if known and len(names) > known:
    raise errors.UserError(
        f'the data have {len(names)} classes, but config key '
        f'model.num_classes is {known}; set it to {len(names)}')


def some_pixels(config: config_dict.ConfigDict, count: int = 8) -> np.ndarray:
  """A few training clips uint8 [count, T, H, W, 3]."""
  clips = source(config, TRAIN)
  try:
    start = pipeline.make_batches(clips, pipeline.BatchOptions(
        video_rows=count, num_frames=config.data.num_frames,
        size=(config.data.height, config.data.width),
        fps=config.data.frame_rate or None, shuffle=False))
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e
  return next(start(0)).videos.pixels
