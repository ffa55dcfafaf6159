"""Moving digits: what the generator promises, checked on pixels."""
import pickle
import time

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from sklearn import datasets

from walt_jax.data.sources import moving_digits

_DIFFICULTIES = tuple(moving_digits.DIFFICULTIES)


def _ink(source, index):
  """|frame - still background| of a clip, [T, H, W] in [0, 1]."""
  scene = source._scene(index)
  if scene.background is None:
    still = moving_digits._background(scene.background_seed, source.size)
  else:
    still = moving_digits._fixed_background(scene.background, source.size)
  video = source[index]['video'].astype(np.float32)
  return np.abs(video - np.rint(still)).mean(axis=-1) / 255


class MovingDigitsTest(parameterized.TestCase):

  def test_exemplars_are_those_of_scikit_learn(self):
    alpha, digits = moving_digits._digits()
    bunch = datasets.load_digits()
    np.testing.assert_array_equal(alpha, (bunch.images / 16).astype('float32'))
    self.assertEqual((alpha.dtype, alpha.shape), (np.float32, (1797, 8, 8)))
    np.testing.assert_array_equal(digits, bunch.target)

  @parameterized.parameters(*_DIFFICULTIES)
  def test_examples_are_functions_of_their_index(self, difficulty):
    source = moving_digits.MovingDigits(difficulty=difficulty, num_examples=50)
    other = moving_digits.MovingDigits(difficulty=difficulty, num_examples=99)
    for index in (0, 17, 49):
      a, b = source[index], pickle.loads(pickle.dumps(other))[index]
      np.testing.assert_array_equal(a.pop('video'), b.pop('video'))
      self.assertEqual(a, b)
    self.assertEqual(source[3]['video'].shape, (17, 32, 32, 3))
    self.assertEqual(source[3]['video'].dtype, np.uint8)
    with self.assertRaises(IndexError):
      source[50]

  def test_splits_share_no_exemplar_and_hold_every_digit(self):
    seen = [set(map(bytes, moving_digits.exemplars(split)[0]))
            for split in ('train', 'heldout', 'reader')]
    self.assertEqual(sum(map(len, seen)), len(set.union(*seen)))
    self.assertGreaterEqual(len(seen[0]), 990)
    for split in ('train', 'heldout', 'reader'):
      digits = moving_digits.exemplars(split)[1]
      self.assertGreaterEqual(np.bincount(digits, minlength=10).min(), 28)

  def test_labels_captions_and_truth_agree_and_are_balanced(self):
    source = moving_digits.MovingDigits(num_examples=80)
    counts = np.zeros(40, int)
    for index in range(80):
      example, truth = source[index], source.truth(index)
      name = source.classes[example['label']]
      want = (truth.digit, truth.direction)
      self.assertEqual(moving_digits.parse_name(name), want)
      self.assertEqual(moving_digits.parse_name(example['caption']), want)
      counts[example['label']] += 1
    np.testing.assert_array_equal(counts, 2)
    digits = moving_digits.MovingDigits(num_examples=80, labels='digit')
    self.assertEqual(digits.classes[digits[5]['label']],
                     moving_digits.WORDS[source.truth(5).digit])
    self.assertEqual(moving_digits.caption(7, 0), 'a seven moves left')

  @parameterized.product(difficulty=_DIFFICULTIES, size=(32, 64))
  def test_ink_is_inside_the_box_of_the_truth(self, difficulty, size):
    source = moving_digits.MovingDigits(
        difficulty=difficulty, size=size, num_frames=41, num_examples=40)
    for index in range(0, 40, 5):
      ink = _ink(source, index)
      for frame, (top, left, height, width) in enumerate(
          source.truth(index).boxes):
        self.assertLessEqual(max(height, width), size / 2)
        rows = (np.arange(size) + 0.5 - top) % size < height
        columns = (np.arange(size) + 0.5 - left) % size < width
        box = rows[:, None] & columns[None, :]
        grown = box.copy()
        for axis in (0, 1):  # A pixel that the box covers in part.
          grown |= np.roll(grown, 1, axis) | np.roll(grown, -1, axis)
        self.assertEqual(ink[frame][~grown].max(), 0)
        self.assertGreater(ink[frame][box].mean(), 0.05)

  def test_quick_moves_one_pixel_a_frame_on_three_lanes(self):
    source = moving_digits.MovingDigits(num_examples=200)
    lanes, backgrounds = set(), set()
    for index in range(200):
      truth = source.truth(index)
      steps = np.abs(np.diff(truth.boxes[:, :2], axis=0)).sum(axis=1)
      np.testing.assert_array_equal(steps, 1)
      self.assertGreaterEqual(truth.boxes[:, :2].min(), 0)
      self.assertLessEqual(truth.boxes[:, :2].max(), 16)
      self.assertTrue(any(
          np.array_equal(truth.boxes, path) for path in moving_digits.paths(
              truth.direction, size=32, num_frames=17)))
      lanes.add(truth.lane)
      backgrounds.add(truth.background)
    self.assertEqual(lanes, {0, 8, 16})
    self.assertEqual(backgrounds, {0, 1, 2, 3})

  def test_free_draws_everything_and_stays_inside_for_17_frames(self):
    source = moving_digits.MovingDigits(num_examples=50, difficulty='free')
    truths = [source.truth(index) for index in range(50)]
    self.assertLen({truth.lane for truth in truths}, 50)
    self.assertLen({truth.speed for truth in truths}, 50)
    self.assertEqual({truth.background for truth in truths}, {None})
    for truth in truths:
      self.assertGreaterEqual(truth.boxes[:, :2].min(), 0)
      self.assertLessEqual(truth.boxes[:, :2].max(), 16 + 1e-9)

  @parameterized.parameters(*_DIFFICULTIES)
  def test_direction_is_defined_in_long_clips(self, difficulty):
    source = moving_digits.MovingDigits(
        num_examples=8, difficulty=difficulty, num_frames=41)
    for index in range(8):
      truth = source.truth(index)
      step = np.diff(truth.boxes[:, :2], axis=0)
      step = (step + 16) % 32 - 16  # The world is a torus.
      axis, sign = {'left': (1, -1), 'right': (1, 1), 'up': (0, -1),
                    'down': (0, 1)}[moving_digits.DIRECTIONS[truth.direction]]
      np.testing.assert_allclose(step[:, axis], sign * truth.speed, atol=1e-9)
      np.testing.assert_array_equal(step[:, 1 - axis], 0)

  @parameterized.parameters(*_DIFFICULTIES)
  def test_same_scene_at_any_size_and_length(self, difficulty):
    settings = dict(num_examples=6, difficulty=difficulty)
    small = moving_digits.MovingDigits(size=32, num_frames=25, **settings)
    large = moving_digits.MovingDigits(size=128, **settings)
    for index in range(6):
      fine = large[index]['video'].astype(np.float32)
      coarse = small[index]['video'][:17].astype(np.float32)
      mean = fine.reshape(17, 32, 4, 32, 4, 3).mean((2, 4))
      self.assertLess(np.square(mean - coarse).mean(), 2.0)  # 45 dB.
      # Detail that the small clip does not have: 31 dB or worse.
      again = coarse.repeat(4, 1).repeat(4, 2)
      self.assertGreater(np.square(fine - again).mean(), 50.0)

  @parameterized.parameters(32, 64, 128)
  def test_backgrounds_are_as_strong_as_promised(self, size):
    frames = [moving_digits._fixed_background(n, size) for n in range(4)]
    frames += [moving_digits._background(n * 7919, size) for n in range(40)]
    for frame in frames:
      luminance = frame @ np.array([0.299, 0.587, 0.114])
      self.assertGreaterEqual(luminance.std() / 255, 0.15)
      self.assertGreaterEqual(frame.std(axis=(0, 1)).min() / 255, 0.15)
      self.assertGreater(frame.mean(axis=(0, 1)).std(), 2)  # Coloured.

  def test_rendering_is_fast(self):
    source = moving_digits.MovingDigits(num_examples=2048)
    source[0]
    start = time.process_time()
    for index in range(64):
      source[index]
    self.assertLess((time.process_time() - start) * 2048 / 64, 8)

  @parameterized.parameters(
      dict(split='test'), dict(difficulty='hard'), dict(labels='words'),
      dict(num_frames=0))
  def test_refuses_wrong_settings(self, **settings):
    with self.assertRaisesRegex(ValueError, str(*settings.values())):
      moving_digits.MovingDigits(**settings)


if __name__ == '__main__':
  absltest.main()
