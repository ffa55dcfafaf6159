"""Sources -> batches: batch k is a pure function of (source, options, k).

Two numbers fix the data order: the seed and the global number of rows of a
batch. Nothing depends on how many processes, workers or threads read, nor on
where an iterator starts: it is set to any batch without replay.

Rows are counted over the whole run. Video row r and image row r of it draw
from generators seeded by (seed, kind, r); which examples they show follows
from a shuffle of the source by Grain that is another one in every epoch. Where
a clip has several captions, each row draws one of them.
"""
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import sys
from typing import Any

from absl import flags
import grain
import numpy as np

from walt_jax.core import pixels as pixels_lib
from walt_jax.core import types
from walt_jax.core import workers
from walt_jax.data.sources import source as source_lib
from walt_jax.data.storage import codecs
from walt_jax.data.storage import frames as frames_lib
from walt_jax.data.stream import captions as captions_lib
from walt_jax.data.stream import filters
from walt_jax.data.stream import order as order_lib

# list of B texts -> token ids int32 [B, L] and mask bool [B, L].
Tokenize = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]
# Rows of a global batch -> [start, stop) of those that this process reads.
RowRange = Callable[[int], tuple[int, int]]
BatchIterator = Iterator[types.Batch]

_VIDEO, _IMAGE = 0, 1  # Kinds of rows, in the seeds of their generators.
_CAPTION = 2  # Added to the kind: captions are drawn by themselves.


@dataclasses.dataclass(frozen=True)
class BatchOptions:
  """What a global batch holds.

  Attributes:
    video_rows: Videos in a global batch.
    image_rows: Rows of independent images in a global batch.
    num_frames: Frames of a video, 1 + T.
    images_per_row: Images of an image row, 1 + t latent frames.
    size: Pixels a side, or (height, width).
    buckets: Shapes (height, width) in place of `size`: each batch has one of
      them, and shows examples whose aspect ratio is nearest to it. Batches
      are in proportion to the examples.
    fps: Frames a second of the clips; None takes neighbouring frames.
    strides: Each video draws one, and is that many times as fast; those that
      do not fit are left out. Evaluation takes the first.
    flip: Mirrors half of the rows; wrong where left and right have a meaning.
    random_crop: Crops at random places; otherwise the centre.
    columns: Entries of the examples, float32, that `Rows.own` holds.
    shuffle: Training order: every epoch shuffled, clips at random offsets.
      False is evaluation: examples in order, the middle clip of each.
    seed: Random seed of order, offsets, flips and crops.
    num_threads: Batches that are made at once.
    prefetch: Batches that may wait.
    num_workers: Processes that make batches; 0 makes them in this one.
  """
  video_rows: int
  image_rows: int = 0
  num_frames: int = 17
  images_per_row: int = 5
  size: int | tuple[int, int] = 128
  buckets: tuple[filters.Shape, ...] = ()
  fps: float | None = None
  strides: tuple[int, ...] = (1,)
  flip: bool = False
  random_crop: bool = False
  columns: tuple[str, ...] = ()
  shuffle: bool = True
  seed: int = 0
  num_threads: int = 2
  prefetch: int = 4
  num_workers: int = 0

  def __post_init__(self):
    if min(self.video_rows, self.image_rows) < 0 or not (
        self.video_rows + self.image_rows):
      raise ValueError(f'A batch needs rows, got {self.video_rows} of videos '
                       f'and {self.image_rows} of images.')
    if self.num_frames < 1 or self.images_per_row < 1:
      raise ValueError(f'A row needs frames, got {self.num_frames} and '
                       f'{self.images_per_row}.')
    if not self.strides or not all(map(_is_count, self.strides)):
      raise ValueError(f'Strides are whole numbers of 1 or more, got '
                       f'{self.strides}.')
    for shape in self.buckets:
      if not isinstance(shape, Sequence) or len(shape) != 2 or not all(
          map(_is_count, shape)):
        raise ValueError('Buckets are pairs (height, width) of pixels, such as '
                         f'((128, 128), (96, 168)); got {self.buckets}.')

  @property
  def shapes(self) -> tuple[filters.Shape, ...]:
    """All (height, width) that a batch may have."""
    if self.buckets:
      return tuple((height, width) for height, width in self.buckets)
    if isinstance(self.size, int):
      return ((self.size, self.size),)
    height, width = self.size
    return ((height, width),)


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and value >= 1


def make_batches(source: source_lib.Source, options: BatchOptions, *,
                 tokenize: Tokenize | None = None,
                 rows: RowRange | None = None,
                 image_source: source_lib.Source | None = None
                 ) -> Callable[[int], BatchIterator]:
  """Returns a function that starts an endless iterator at any batch.

  Args:
    source: Videos (and images, as single frames of them). All of a latent
      cache come out as `Rows.posterior`.
    options: What a batch holds.
    tokenize: Turns captions into `Rows.text_ids` and `Rows.text_mask`.
    rows: Which rows of a global batch of n this process reads; default all.
    image_source: Images, where they do not come from `source`.

  Returns:
    `start(batch)`, the iterator whose first item is global batch number
    `batch`; leaves are NumPy arrays of this process's rows.
  """
  make = _BatchMaker(source, image_source or source, options, tokenize,
                     rows or _all_rows)

  def start(batch: int) -> BatchIterator:
    if batch < 0:
      raise ValueError(f'No batch has number {batch}.')
    dataset = (grain.MapDataset.range(batch, sys.maxsize)
               .map(make)
               .to_iter_dataset(grain.ReadOptions(
                   num_threads=options.num_threads,
                   prefetch_buffer_size=options.prefetch)))
    if options.num_workers:
      # Grain's worker processes read absl flags, which nobody has parsed.
      if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
      dataset = dataset.mp_prefetch(
          grain.MultiprocessingOptions(num_workers=options.num_workers),
          worker_init_fn=workers.begin)
      return workers.deaf(iter(dataset))
    return iter(dataset)

  return start


def _all_rows(count: int) -> tuple[int, int]:
  return 0, count


class _BatchMaker:
  """Maps a global batch number to this process's rows of it."""

  def __init__(self, videos: source_lib.Source, images: source_lib.Source,
               options: BatchOptions, tokenize: Tokenize | None,
               rows: RowRange):
    self._videos, self._images = videos, images
    self._options, self._tokenize = options, tokenize
    self._shapes = options.shapes
    self._video_rows = rows(options.video_rows) if options.video_rows else None
    self._image_rows = rows(options.image_rows) if options.image_rows else None
    sizes: list[int] = []  # Of the buckets.
    if self._video_rows:
      members = filters.long_enough(
          videos, options.num_frames, options.fps,
          min(options.strides) if options.shuffle else options.strides[0])
      self._video_orders = self._orders(videos, members, options.seed, sizes)
    if self._image_rows:
      self._image_orders = self._orders(images, None, options.seed + 1, sizes)
    self._bucket_of = order_lib.Schedule(
        sizes[:len(self._shapes)], options.seed)

  def _orders(self, source: source_lib.Source, members: np.ndarray | None,
              seed: int, sizes: list[int]) -> list[order_lib.Order]:
    """An order of examples for each shape; adds how many each has."""
    orders: list[order_lib.Order] = []
    for shape, own in zip(
        self._shapes, filters.buckets(source, members, self._shapes),
        strict=True):
      sizes.append(len(source) if own is None else len(own))
      if not sizes[-1] and len(self._shapes) > 1:
        raise ValueError(f'No example is nearest to the shape {shape} of '
                         f'{self._shapes}: leave it out.')
      orders.append(order_lib.order_of(source, own, seed,
                                       self._options.shuffle))
    return orders

  def __call__(self, batch: int) -> types.Batch:
    batch = int(batch)
    # Batch `place` of those that have this shape; rows of each shape are
    # counted by themselves.
    bucket, place = self._bucket_of[batch]
    videos = images = None
    if self._video_rows:
      count = self._options.video_rows
      videos = self._join([
          self._video_row(bucket, place * count + row, batch * count + row)
          for row in range(*self._video_rows)])
    if self._image_rows:
      count = self._options.image_rows
      images = self._join([
          self._image_row(bucket, place * count + row, batch * count + row)
          for row in range(*self._image_rows)])
    return types.Batch(videos=videos, images=images)

  def _generator(self, kind: int, row: int) -> np.random.Generator | None:
    if not self._options.shuffle:
      return None
    return np.random.default_rng([self._options.seed, kind, row])

  def _with_caption(self, example: dict, kind: int, row: int,
                    image: int = 0) -> dict:
    seed = None
    if self._options.shuffle:
      seed = [self._options.seed, _CAPTION + kind, row, image]
    return captions_lib.choose(example, seed)

  def _video_row(self, bucket: int, place: int, row: int) -> dict:
    example = self._with_caption(
        self._videos[self._video_orders[bucket][place]], _VIDEO, row)
    rng = self._generator(_VIDEO, row)
    if 'mean' in example:
      self._refuse_pixel_options()
      found = {name: example[name] for name in _LATENTS if name in example}
    else:
      found = dict(pixels=self._clip(
          example, self._options.num_frames, self._shapes[bucket], rng))
    return found | self._condition([example])

  def _image_row(self, bucket: int, place: int, row: int) -> dict:
    count = self._options.images_per_row
    rng = self._generator(_IMAGE, row)
    order = self._image_orders[bucket]
    chosen = [self._with_caption(
        self._images[order[place * count + image]], _IMAGE, row, image)
              for image in range(count)]
    if 'mean' in chosen[0]:
      self._refuse_pixel_options()
      found = _cached_images(chosen, rng)
    else:
      found = dict(pixels=np.concatenate(
          [self._clip(example, 1, self._shapes[bucket], rng)
           for example in chosen]))
    return found | self._condition(chosen)

  def _condition(self, chosen: Sequence[dict]) -> dict:
    """Labels [F], captions, cached text states [F, L, D], own columns."""
    found = dict(
        label=np.array([example['label'] for example in chosen], np.int32),
        captions=[example['caption'] for example in chosen],
        own={name: np.array([example[name] for example in chosen], np.float32)
             for name in self._options.columns})
    for name in ('text', 'text_mask'):
      if name in chosen[0]:
        found[name] = np.stack([example[name] for example in chosen])
    return found

  def _refuse_pixel_options(self) -> None:
    if self._options.flip or self._options.random_crop:
      raise ValueError('Cached latents cannot be flipped or cropped: set flip '
                       'and random_crop to False, or train without a cache.')

  def _clip(self, example: dict, num_frames: int, shape: filters.Shape,
            rng: np.random.Generator | None) -> np.ndarray:
    try:
      indices = frames_lib.frame_indices(
          codecs.num_frames(example), example['fps'], num_frames,
          self._options.fps if num_frames > 1 else None, rng,
          self._options.strides if num_frames > 1 else (1,))
    except ValueError as error:
      raise ValueError(f'Example {example["key"]!r}: {error}') from error
    clip = codecs.read_clip(example, indices, *shape,
                            rng=rng if self._options.random_crop else None)
    if self._options.flip and rng is not None and rng.integers(2):
      clip = pixels_lib.mirror(clip)
    return clip

  def _join(self, rows: list[dict]) -> types.Rows:
    """Stacks rows and looks at what they hold."""
    captions = [row.pop('captions') for row in rows]
    own = [row.pop('own') for row in rows]
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    fields: dict[str, Any] = {
        name: arrays.get(name)
        for name in ('pixels', 'label', 'text', 'text_mask')}
    if self._options.columns:
      fields['own'] = {name: np.stack([row[name] for row in own])
                       for name in self._options.columns}
    if 'mean' in arrays:
      fields['posterior'] = types.Posterior(arrays['mean'],
                                            arrays.get('logvar'))
    if 'low_mean' in arrays:
      fields['low_res'] = types.Posterior(arrays['low_mean'],
                                          arrays.get('low_logvar'))
    if self._tokenize is not None:
      flat = [text for texts in captions for text in texts]
      ids, mask = self._tokenize(flat)
      front = (len(captions), len(captions[0]))
      fields['text_ids'] = np.asarray(ids, np.int32).reshape(*front, -1)
      fields['text_mask'] = np.asarray(mask, bool).reshape(*front, -1)
    return types.Rows(**fields)


_LATENTS = ('mean', 'logvar', 'low_mean', 'low_logvar')


def _cached_images(chosen: Sequence[dict],
                   rng: np.random.Generator | None) -> dict:
  """Latents [F, h, w, c] of one image of each example."""
  found: dict[str, list[np.ndarray]] = {}
  for example in chosen:
    # Without images of its own, a clip gives its first latent frame: the
    # tokenizer is causal, so that is the latent of its first frame alone.
    source = {name.removeprefix('image_'): value
              for name, value in example.items() if name.startswith('image_')}
    if not source:
      source = {name: example[name][:1] for name in _LATENTS
                if name in example}
    count = len(source['mean'])
    pick = 0 if rng is None else int(rng.integers(count))
    for name in _LATENTS:
      if name in source:
        found.setdefault(name, []).append(source[name][pick])
  return {name: np.stack(values) for name, values in found.items()}
