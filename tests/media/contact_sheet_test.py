"""Frames land where the sheet says they are."""
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.media import contact_sheet


class ContactSheetTest(parameterized.TestCase):

  def test_shows_every_frame_of_short_clips(self):
    # Clip n, frame t is filled with its own colour.
    values = 40 + 20 * np.arange(6, dtype=np.uint8).reshape(2, 3)
    clips = np.broadcast_to(
        values[..., None, None, None], (2, 3, 64, 64, 3)).astype(np.uint8)
    sheet = contact_sheet.contact_sheet(clips, ['one', 'two'])
    grey = (sheet == sheet[..., :1]).all(-1)
    centres = []
    for value in values.ravel():
      rows, columns = np.nonzero(grey & (sheet[..., 0] == value))
      inside = ((rows > np.median(rows) - 32) & (rows < np.median(rows) + 32))
      self.assertGreaterEqual(inside.sum(), 60 * 64)
      centres.append((np.median(rows), np.median(columns)))
    centres = np.array(centres).reshape(2, 3, 2)
    self.assertTrue((np.diff(centres[..., 0], axis=0) > 64).all())
    self.assertTrue((np.diff(centres[..., 1], axis=1) > 64).all())

  @parameterized.parameters((3, 9, [0, 1, 2]), (17, 5, [0, 4, 8, 12, 16]),
                            (17, 1, [0]), (18, 2, [0, 17]))
  def test_picks_evenly(self, num_frames, max_frames, expected):
    self.assertEqual(
        contact_sheet.pick_frames(num_frames, max_frames), expected)

  def test_picked_frames_keep_their_numbers(self):
    video = np.zeros((129, 64, 64, 3), np.uint8)
    picked = contact_sheet.pick_frames(129, 9)
    whole = contact_sheet.contact_sheet([video], ['a'])
    for numbers, equal in (([picked], True), (None, False)):
      sheet = contact_sheet.contact_sheet(
          [video[picked]], ['a'], numbers=numbers)
      self.assertEqual(np.array_equal(sheet, whole), equal)

  def test_rows_of_unlike_numbers_have_their_own(self):
    clips = np.zeros((2, 3, 64, 64, 3), np.uint8)
    draw = lambda *numbers: contact_sheet.contact_sheet(
        clips, ['a', 'b'], numbers=numbers)
    apart, turned = draw((0, 6, 12), (0, 9, 18)), draw((0, 9, 18), (0, 6, 12))
    starts, = np.nonzero(np.diff((apart == 0).all(2).any(1).astype(int)) == 1)
    # What stands above a row: its numbers.
    above = lambda sheet: [sheet[start - 16:start + 1] for start in starts]
    np.testing.assert_array_equal(above(apart), above(turned)[::-1])
    self.assertFalse(np.array_equal(*above(apart)))

  def test_unlike_lengths_long_captions_and_title(self):
    clips = [np.zeros((t, 16, 24, 3), np.uint8) for t in (1, 5)]
    sheet = contact_sheet.contact_sheet(
        clips, ['word ' * 200, 'x' * 500], title='Title', max_frames=3)
    self.assertEqual(sheet.dtype, np.uint8)
    self.assertLess(sheet.shape[1], 700)

  @parameterized.parameters(
      (np.zeros((1, 2, 8, 8, 3), np.uint8), []),
      (np.zeros((0, 2, 8, 8, 3), np.uint8), []),
      (np.zeros((1, 2, 8, 8, 3), np.float32), ['a']),
      ([np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 9, 3), np.uint8)],
       ['a', 'b']),
      (np.zeros((1, 2, 8, 8, 3), np.uint8), ['a'], [[0, 1, 2]]))
  def test_refusals(self, clips, captions, numbers=None):
    with self.assertRaises(ValueError):
      contact_sheet.contact_sheet(clips, captions, numbers=numbers)


if __name__ == '__main__':
  absltest.main()
