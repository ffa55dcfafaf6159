"""Orders, mixing proportions, aspect buckets, clips that are too short."""
import pickle

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.data.sources import mixture
from walt_jax.data.storage import example_index
from walt_jax.data.stream import batches as batches_lib
from walt_jax.data.stream import filters
from walt_jax.data.stream import order


class Filled:
  """Clip i is filled with `first` + i; shapes and lengths as given."""

  def __init__(self, first, shapes, num_frames=None, classes=('only',),
               fps=8.0):
    frames = num_frames or [9] * len(shapes)
    self.classes, self._first = classes, first
    self.index = np.array(
        [(n, *shape, fps, i % len(classes))
         for i, (n, shape) in enumerate(zip(frames, shapes, strict=True))],
        example_index.DTYPE)

  def __len__(self):
    return len(self.index)

  def __getitem__(self, row):
    frames, height, width, fps, label = self.index[row].tolist()
    return dict(video=np.full((frames, height, width, 3), self._first + row,
                              np.uint8),
                label=label, caption='', fps=fps, key=str(self._first + row))


def _square(first, count, **kwargs):
  return Filled(first, [(8, 8)] * count, **kwargs)


def _shown(source, options, batches, start=0, **kwargs):
  iterator = batches_lib.make_batches(source, options, **kwargs)(start)
  return [next(iterator).videos.pixels for _ in range(batches)]


_OPTIONS = batches_lib.BatchOptions(video_rows=5, num_frames=1, size=8,
                                 num_threads=1)


class OrderTest(parameterized.TestCase):

  @parameterized.parameters(([1, 1],), ([3, 1],), ([0.7, 0.2, 0.1],),
                            ([1, 1e-6],), ([1] * 7,), ([5],))
  def test_schedule_keeps_proportions_and_counts(self, weights):
    schedule = order.Schedule(weights, seed=3)
    places = [schedule[k] for k in range(2500)]
    counts = [0] * len(weights)
    for stream, place in places:
      self.assertEqual(place, counts[stream])  # Each stream is a sequence.
      counts[stream] += 1
    first = np.bincount([s for s, _ in places[:1000]], minlength=len(weights))
    want = np.array(weights) / np.sum(weights)
    np.testing.assert_allclose(first / 1000, want, atol=1.1e-3)
    self.assertGreater(first.min(), 0)
    far = schedule[10**12 + 7]
    self.assertAlmostEqual(far[1] / 1e12, schedule.counts[far[0]] / 1000,
                           places=6)

  def test_schedule_refuses_wrong_weights(self):
    for weights in ([], [1, 0], [1, -1], [float('nan')]):
      with self.assertRaisesRegex(ValueError, 'positive'):
        order.Schedule(weights, 0)


class MixtureTest(absltest.TestCase):

  def _mixture(self):
    return mixture.Mixture(
        [_square(0, 4, classes=('cat', 'dog')),
         _square(100, 40, classes=('dog', 'emu'))], [3, 1])

  def test_proportions_do_not_depend_on_sizes(self):
    values = np.concatenate([
        batch[:, 0, 0, 0, 0] for batch in _shown(self._mixture(), _OPTIONS,
                                                 400)])
    self.assertEqual((values < 100).sum(), 1500)
    large = values[values >= 100]
    self.assertEqual(set(large[:40]), set(range(100, 140)))  # An epoch.
    for at in range(0, len(values), 100):
      self.assertBetween((values[at:at + 100] < 100).sum(), 55, 92)

  def test_labels_are_those_of_the_joint_classes(self):
    joint = self._mixture()
    self.assertEqual(joint.classes, ('cat', 'dog', 'emu'))
    names = [joint.classes[joint[row]['label']] for row in range(len(joint))]
    self.assertEqual(names[:6], ['cat', 'dog', 'cat', 'dog', 'dog', 'emu'])
    self.assertEqual(joint.index['label'].tolist(),
                     [joint[row]['label'] for row in range(len(joint))])

  def test_any_batch_and_any_process_count(self):
    joint = pickle.loads(pickle.dumps(self._mixture()))
    options = batches_lib.BatchOptions(
        video_rows=4, num_frames=3, size=8, num_threads=1, seed=5)
    unbroken = _shown(self._mixture(), options, 6)
    np.testing.assert_array_equal(_shown(joint, options, 2, start=4),
                                  unbroken[4:])
    for processes in (2, 4):
      parts = [
          _shown(joint, options, 3, rows=lambda n, p=process, c=processes: (
              p * n // c, (p + 1) * n // c)) for process in range(processes)]
      np.testing.assert_array_equal(np.concatenate(parts, axis=1),
                                    unbroken[:3])

  def test_refuses_wrong_weights(self):
    with self.assertRaisesRegex(ValueError, '1 sources but 2'):
      mixture.Mixture([_square(0, 4)], [1, 2])
    with self.assertRaisesRegex(ValueError, 'positive'):
      mixture.Mixture([_square(0, 4)], [0])


class SelectionTest(parameterized.TestCase):

  def test_batches_have_the_nearest_shape_in_proportion(self):
    shapes = [(8, 8)] * 6 + [(8, 14)] * 3 + [(20, 10)] * 3
    source = Filled(0, shapes)
    options = batches_lib.BatchOptions(
        video_rows=2, image_rows=1, images_per_row=2, num_frames=3,
        buckets=((8, 8), (8, 16), (16, 8)), num_threads=1)
    start = batches_lib.make_batches(source, options)
    iterator = start(0)
    counts = {}
    for number in range(1000):
      batch = next(iterator)
      shape = batch.videos.pixels.shape[2:4]
      self.assertEqual(batch.images.pixels.shape[2:4], shape)
      counts[shape] = counts.get(shape, 0) + 1
      shown = {shapes[value] for value in batch.videos.pixels[:, 0, 0, 0, 0]}
      self.assertEqual(
          shown, {{(8, 8): (8, 8), (8, 16): (8, 14), (16, 8): (20, 10)}[shape]})
      if number == 700:
        again = next(start(700))
        np.testing.assert_array_equal(again.videos.pixels, batch.videos.pixels)
    self.assertEqual(counts, {(8, 8): 500, (8, 16): 250, (16, 8): 250})

  @parameterized.parameters(1, 2, 4)
  def test_processes_share_batches_of_buckets_and_other_images(self, count):
    videos = mixture.Mixture(
        [Filled(0, [(8, 8), (8, 16)] * 3), Filled(40, [(8, 16)] * 5)], [1, 2])
    images = Filled(100, [(8, 8), (8, 16)] * 4)
    options = batches_lib.BatchOptions(
        video_rows=4, image_rows=8, images_per_row=2, num_frames=3,
        buckets=((8, 8), (8, 16)), num_threads=1)
    whole = batches_lib.make_batches(videos, options, image_source=images)(5)
    parts = [
        batches_lib.make_batches(
            videos, options, image_source=images,
            rows=lambda n, p=process: (p * n // count, (p + 1) * n // count)
        )(5) for process in range(count)]
    shapes = set()
    for _ in range(8):
      want = next(whole)
      shapes.add(want.videos.pixels.shape[2:4])
      self.assertGreaterEqual(want.images.pixels.min(), 100)
      jax.tree.map(
          np.testing.assert_array_equal, want,
          jax.tree.map(lambda *rows: np.concatenate(rows),
                       *(next(part) for part in parts)))
    self.assertEqual(shapes, {(8, 8), (8, 16)})

  def test_buckets_need_examples_and_shapes(self):
    options = batches_lib.BatchOptions(video_rows=1, num_frames=1,
                                    buckets=((8, 8), (8, 16)))
    with self.assertRaisesRegex(ValueError, r'nearest to the shape \(8, 16\)'):
      batches_lib.make_batches(_square(0, 3), options)
    with self.assertRaisesRegex(ValueError, 'prepared data'):
      filters.buckets(object(), None, options.buckets)

  def test_buckets_of_a_mixture_keep_its_weights(self):
    wide = [(8, 16), (8, 8)]
    joint = mixture.Mixture([Filled(0, wide * 5), Filled(100, wide * 5)],
                            [1, 4])
    options = batches_lib.BatchOptions(
        video_rows=10, num_frames=1, buckets=((8, 8), (8, 16)), num_threads=1)
    values = np.concatenate([
        batch[:, 0, 0, 0, 0] for batch in _shown(joint, options, 400)])
    self.assertAlmostEqual((values < 100).mean(), 0.2, delta=0.01)

  def test_short_clips_are_left_out_and_told(self):
    source = _square(0, 6, num_frames=[9, 4, 9, 5, 8, 17])
    options = batches_lib.BatchOptions(video_rows=2, num_frames=5, size=8,
                                    num_threads=1)
    with self.assertLogs('walt_jax', 'WARNING') as logs:
      seen = np.concatenate(_shown(source, options, 5))[:, 0, 0, 0, 0]
    self.assertIn('1 of 6 clips are shorter than 5 frames', logs.output[0])
    self.assertEqual(set(seen), {0, 2, 3, 4, 5})
    # At half the rate of the files, clips must be twice as long.
    members = filters.long_enough(source, 5, 4.0, 1)
    self.assertEqual(members.tolist(), [0, 2, 5])
    self.assertEqual(filters.long_enough(source, 5, 4.0, 2).tolist(), [5])
    with self.assertRaisesRegex(ValueError, 'None of the 6 clips has 18'):
      filters.long_enough(source, 18, None, 1)

  def test_strides_that_fit_are_drawn(self):
    source = _square(0, 1, num_frames=[9])
    numbered = np.arange(9, dtype=np.uint8)[:, None, None, None]
    video = np.broadcast_to(numbered, (9, 8, 8, 3))
    source.__class__ = type('Counting', (Filled,), dict(
        __getitem__=lambda self, row: Filled.__getitem__(self, row) | dict(
            video=video)))
    options = batches_lib.BatchOptions(video_rows=40, num_frames=3, size=8,
                                    strides=(1, 2, 4, 5), num_threads=1)
    batch, = _shown(source, options, 1)
    steps = np.diff(batch[..., 0, 0, 0].astype(int), axis=1)
    self.assertEqual({tuple(step) for step in steps},
                     {(1, 1), (2, 2), (4, 4)})


if __name__ == '__main__':
  absltest.main()
