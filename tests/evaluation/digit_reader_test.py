"""The readers see what is there, and nothing where there is nothing."""
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.evaluation import digit_reader
from walt_jax.metrics import intervals


class ControlTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.reader = digit_reader.train_reader()

  def accuracies(self, clips, digits, directions):
    result = digit_reader.score(self.reader.read(clips), digits, directions)
    return (result['digit']['accuracy'], result['direction']['accuracy'])

  @parameterized.parameters(('quick', 32, 17), ('free', 64, 16))
  def test_reads_real_held_out_clips(self, difficulty, size, num_frames):
    real = digit_reader.held_out_clips(
        160, size=size, num_frames=num_frames, difficulty=difficulty)
    digit, direction = self.accuracies(*real)
    self.assertGreaterEqual(digit, 0.9)
    self.assertGreaterEqual(direction, 0.95)

  def test_reads_noisy_clips(self):
    clips, digits, directions = digit_reader.held_out_clips(80)
    noise = np.random.default_rng(0).normal(scale=10, size=clips.shape)
    noisy = np.clip(np.rint(clips + noise), 0, 255).astype(np.uint8)
    digit, direction = self.accuracies(noisy, digits, directions)
    self.assertGreaterEqual(digit, 0.85)
    self.assertGreaterEqual(direction, 0.95)

  def test_reversed_clips_move_the_other_way(self):
    clips, digits, directions = digit_reader.held_out_clips(40)
    digit, direction = self.accuracies(
        clips[:, ::-1], digits, [way ^ 1 for way in directions])
    self.assertGreaterEqual(digit, 0.85)
    self.assertGreaterEqual(direction, 0.95)

  def test_still_clips_have_no_direction_and_random_ones_no_digit(self):
    clips, digits, directions = digit_reader.held_out_clips(80)
    still = np.repeat(clips[:, :1], 17, axis=1)
    self.assertEqual(set(self.reader.read(still).direction),
                     {digit_reader.NO_DIRECTION})
    noise = np.random.default_rng(0).integers(
        0, 256, clips.shape).astype(np.uint8)
    digit, direction = self.accuracies(noise, digits, directions)
    self.assertLess(digit, 0.3)
    self.assertLess(direction, 0.5)

  def test_captions_without_direction_are_not_scored_on_it(self):
    reading = digit_reader.Reading(np.array([1, 2]), np.array([0, 1]))
    result = digit_reader.score(reading, [1, 3], [None, 1])
    self.assertEqual(result['digit']['accuracy'], 0.5)
    self.assertEqual(result['direction']['total'], 1)
    self.assertIsNone(
        digit_reader.score(reading, [1, 3], [None] * 2)['direction'])

  def test_other_shapes_are_refused(self):
    for shape in ((1, 3, 32, 32, 3), (1, 17, 32, 64, 3), (1, 17, 40, 40, 3)):
      with self.assertRaisesRegex(ValueError, '32'):
        self.reader.read(np.zeros(shape, np.uint8))

  def test_wilson_interval(self):
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    np.testing.assert_allclose(
        intervals.wilson(81, 263), (0.2553, 0.3662), atol=5e-5)
    np.testing.assert_allclose(
        intervals.wilson(0, 20), (0.0, 0.1611), atol=5e-5)


if __name__ == '__main__':
  absltest.main()
