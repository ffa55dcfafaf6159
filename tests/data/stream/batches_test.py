"""Batches: a pure function of (source, options, batch number)."""
import dataclasses
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.data.sources import moving_digits
from walt_jax.data.stream import batches as batches_lib


class Numbered:
  """Clip i is filled with i; its frames differ in the last channel."""
  classes = ('even', 'odd')

  def __init__(self, length, num_frames=9, size=8):
    self._shape = (num_frames, size, size, 3)
    self._length = length

  def __len__(self):
    return self._length

  def __getitem__(self, index):
    video = np.full(self._shape, index, np.uint8)
    video[..., 2] = np.arange(self._shape[0])[:, None, None]
    video[..., 1] = np.arange(self._shape[1])[:, None]  # Row number.
    return dict(video=video, label=index % 2, caption=f'clip {index}',
                fps=8.0, key=str(index), wind=[index, -index])


_OPTIONS = batches_lib.BatchOptions(
    video_rows=4, image_rows=4, num_frames=5, images_per_row=2, size=8, seed=3,
    num_threads=1)


def _take(start, batch, count=1):
  iterator = start(batch)
  return [next(iterator) for _ in range(count)]


def _assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


class PipelineTest(parameterized.TestCase):

  def test_shapes_and_types(self):
    batch, = _take(batches_lib.make_batches(Numbered(10), _OPTIONS), 0)
    self.assertEqual(batch.videos.pixels.shape, (4, 5, 8, 8, 3))
    self.assertEqual(batch.videos.pixels.dtype, np.uint8)
    self.assertEqual(batch.videos.label.shape, (4, 1))
    self.assertEqual(batch.images.pixels.shape, (4, 2, 8, 8, 3))
    self.assertEqual(batch.images.label.shape, (4, 2))
    np.testing.assert_array_equal(batch.images.label,
                                  batch.images.pixels[..., 0, 0, 0] % 2)

  def test_own_columns_come_with_each_frame(self):
    options = dataclasses.replace(_OPTIONS, columns=('wind',))
    batch, = _take(batches_lib.make_batches(Numbered(10), options), 0)
    for rows, count in ((batch.videos, 1), (batch.images, 2)):
      wind = rows.own['wind']
      self.assertEqual((wind.shape, wind.dtype), ((4, count, 2), np.float32))
      np.testing.assert_array_equal(
          wind[..., 0], rows.pixels[:, :count, 0, 0, 0])
      np.testing.assert_array_equal(wind[..., 1], -wind[..., 0])
    plain, = _take(batches_lib.make_batches(Numbered(10), _OPTIONS), 0)
    self.assertIsNone(plain.videos.own)

  def test_any_batch_can_be_the_first(self):
    start = batches_lib.make_batches(Numbered(10), _OPTIONS)
    unbroken = _take(start, 0, 12)
    for batch in (1, 7, 11):
      _assert_equal(_take(start, batch)[0], unbroken[batch])
    _take(start, 10**9)  # Far away is as near.

  @parameterized.parameters(1, 2, 4)
  def test_processes_read_the_rows_of_one_global_batch(self, processes):
    def rows(count, process):
      return (process * count // processes, (process + 1) * count // processes)
    for batch in (0, 5):
      whole, = _take(batches_lib.make_batches(Numbered(10), _OPTIONS), batch)
      parts = [
          _take(batches_lib.make_batches(
              Numbered(10), _OPTIONS,
              rows=functools.partial(rows, process=process)), batch)[0]
          for process in range(processes)]
      _assert_equal(jax.tree.map(lambda *x: np.concatenate(x), *parts), whole)

  @parameterized.parameters(True, False)
  def test_restarts_with_other_process_counts_go_on_as_one_run(self, shuffle):
    options = batches_lib.BatchOptions(**vars(_OPTIONS) | dict(
        shuffle=shuffle, strides=(1, 2) if shuffle else (1,)))
    want = _take(batches_lib.make_batches(Numbered(10), options), 0, 12)
    for number, processes in enumerate((1, 4, 2, 1)):
      first = 3 * number
      parts = [
          _take(batches_lib.make_batches(
              Numbered(10), options,
              rows=lambda n, p=process, c=processes: (
                  p * n // c, (p + 1) * n // c)), first, 3)
          for process in range(processes)]
      for batch in range(3):
        joined = jax.tree.map(lambda *x: np.concatenate(x),
                              *(part[batch] for part in parts))
        _assert_equal(joined, want[first + batch])

  def test_epochs_hold_every_example_once_in_different_orders(self):
    options = batches_lib.BatchOptions(video_rows=5, num_frames=1, size=8,
                                    num_threads=1)
    batches = _take(batches_lib.make_batches(Numbered(10), options), 0, 6)
    seen = np.concatenate([b.videos.pixels[:, 0, 0, 0, 0] for b in batches])
    epochs = seen.reshape(3, 10)
    for epoch in epochs:
      self.assertCountEqual(epoch, range(10))
    self.assertFalse((epochs[0] == epochs[1]).all())
    self.assertFalse((epochs[1] == epochs[2]).all())

  def test_offsets_are_random_in_training_and_fixed_in_evaluation(self):
    start = batches_lib.make_batches(Numbered(4), _OPTIONS)
    firsts = {int(first) for batch in _take(start, 0, 12)
              for first in batch.videos.pixels[:, 0, 0, 0, 2]}
    self.assertEqual(firsts, {0, 1, 2, 3, 4})
    steps = np.diff(_take(start, 0)[0].videos.pixels[:, :, 0, 0, 2], axis=1)
    np.testing.assert_array_equal(steps, 1)
    options = batches_lib.BatchOptions(video_rows=3, num_frames=5, size=8,
                                    shuffle=False, num_threads=1)
    batch, = _take(batches_lib.make_batches(Numbered(4), options), 1)
    np.testing.assert_array_equal(batch.videos.pixels[:, 0, 0, 0, 2], 2)
    np.testing.assert_array_equal(batch.videos.pixels[:, 0, 0, 0, 0], [3, 0, 1])

  def test_other_seed_other_rows(self):
    other = batches_lib.BatchOptions(**vars(_OPTIONS) | dict(seed=4))
    a, = _take(batches_lib.make_batches(Numbered(100), _OPTIONS), 0)
    b, = _take(batches_lib.make_batches(Numbered(100), other), 0)
    self.assertFalse(np.array_equal(a.videos.pixels, b.videos.pixels))

  def test_rate_size_and_flip(self):
    options = batches_lib.BatchOptions(
        video_rows=8, num_frames=3, size=(4, 6), fps=4.0, flip=True,
        random_crop=True, num_threads=1)
    source = Numbered(4, num_frames=9, size=12)
    batch, = _take(batches_lib.make_batches(source, options), 0)
    self.assertEqual(batch.videos.pixels.shape, (8, 3, 4, 6, 3))
    steps = np.diff(batch.videos.pixels[:, :, 0, 0, 2], axis=1)
    np.testing.assert_array_equal(steps, 2)

  def test_flip_mirrors_about_half_of_the_rows(self):
    source = moving_digits.MovingDigits(num_examples=1)
    options = batches_lib.BatchOptions(video_rows=16, num_frames=17, size=32,
                                    flip=True, num_threads=1)
    batch, = _take(batches_lib.make_batches(source, options), 0)
    video = source[0]['video']
    same = [np.array_equal(row, video) for row in batch.videos.pixels]
    mirrored = [np.array_equal(row, video[:, :, ::-1])
                for row in batch.videos.pixels]
    self.assertEqual(sum(same) + sum(mirrored), 16)
    self.assertBetween(sum(same), 3, 13)

  def test_captions_become_token_ids(self):
    def tokenize(texts):
      ids = np.array([[int(text.split()[1]), 7] for text in texts], np.int32)
      return ids, ids > 0
    batch, = _take(batches_lib.make_batches(Numbered(10), _OPTIONS,
                                         tokenize=tokenize), 2)
    np.testing.assert_array_equal(batch.images.text_ids[..., 0],
                                  batch.images.pixels[..., 0, 0, 0])
    self.assertEqual(batch.videos.text_ids.shape, (4, 1, 2))
    self.assertEqual(batch.videos.text_mask.dtype, np.bool_)

  def test_worker_processes_and_threads_change_nothing(self):
    source = moving_digits.MovingDigits(num_examples=12, size=16)
    options = dict(video_rows=2, image_rows=1, num_frames=5, size=16)
    want = _take(batches_lib.make_batches(source, batches_lib.BatchOptions(
        **options, num_threads=1)), 3, 5)
    for extra in (dict(num_threads=4), dict(num_workers=2)):
      got = _take(batches_lib.make_batches(source, batches_lib.BatchOptions(
          **options, **extra)), 3, 5)
      _assert_equal(got, want)

  def test_says_which_example_is_too_short(self):
    options = batches_lib.BatchOptions(video_rows=1, num_frames=10, size=8,
                                    shuffle=False)
    with self.assertRaisesRegex(ValueError, "'0'.*10 frames.*9 frames"):
      _take(batches_lib.make_batches(Numbered(3), options), 0)


if __name__ == '__main__':
  absltest.main()
