"""Real clips as published protocols draw them: whole videos, random places."""
import collections
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.data import video_files
from walt_jax.core import errors
from walt_jax.data import video_draws
from walt_jax.data.prepare import prepare

_ROWS, _COLUMNS = 4, 7


class _Videos:
  """Videos whose red tells the frame, green the column, blue the video."""
  path = pathlib.Path('videos')

  def __init__(self, lengths):
    self.lengths = np.array(lengths)
    self.labels = tuple(f'class {number % 3}' for number in range(len(lengths)))
    self.by_name = np.arange(len(lengths))[::-1]

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, number: int) -> dict:
    video = np.empty((self.lengths[number], _ROWS, _COLUMNS, 3), np.uint8)
    video[..., 0] = np.arange(len(video))[:, None, None]
    video[..., 1] = np.arange(_COLUMNS)
    video[..., 2] = number
    return dict(video=video, fps=25.0, label=0)


def _place(clip: np.ndarray) -> tuple[int, int, int, bool]:
  """Video, first frame, first column and whether a clip is mirrored."""
  is_mirrored = bool(clip[0, 0, 0, 1] > clip[0, 0, -1, 1])
  columns = clip[0, 0, ::-1 if is_mirrored else 1, 1]
  return int(clip[0, 0, 0, 2]), int(clip[0, 0, 0, 0]), int(
      columns[0]), is_mirrored


class VideoDrawsTest(parameterized.TestCase):

  def test_an_epoch_shows_every_long_video_once_in_an_order_of_its_own(self):
    videos = _Videos([9, 3, 8, 20, 5, 5, 11])  # One of 3 frames is too short.
    form = video_draws.ClipForm(5, _ROWS, _ROWS, augment=True)
    draws = video_draws.epochs(videos, 0, 15, 7, form)
    drawn = [_place(clip)[0] for clip in draws]
    orders = [drawn[:6], drawn[6:12]]
    for order in orders:
      self.assertCountEqual(order, [0, 2, 3, 4, 5, 6])
    self.assertNotEqual(*orders)
    self.assertLen(set(drawn[12:]), 3)
    self.assertEqual(draws.labels, tuple(f'class {n % 3}' for n in drawn))
    other = video_draws.epochs(videos, 0, 15, 8, form)
    self.assertNotEqual(drawn, [_place(clip)[0] for clip in other])
    with self.assertRaisesRegex(errors.UserError, 'longest has 20'):
      video_draws.epochs(videos, 0, 1, 7, video_draws.ClipForm(
          21, _ROWS, _ROWS, augment=True))

  @parameterized.parameters((0, 4), (4, 9), (5, 1), (13, 2))
  def test_sets_are_consecutive_parts_of_one_stream(self, first, count):
    videos = _Videos([9, 8, 20, 5, 11])
    form = video_draws.ClipForm(5, _ROWS, _ROWS, augment=True)
    stream = video_draws.epochs(videos, 0, 15, 7, form)
    part = video_draws.epochs(videos, first, count, 7, form)
    self.assertLen(part, count)
    np.testing.assert_array_equal(
        np.stack(list(part)),
        np.stack([stream[first + i] for i in range(count)]))

  @parameterized.parameters(True, False)
  def test_offsets_crops_and_mirrors_are_uniform(self, augment):
    videos = _Videos([8])
    form = video_draws.ClipForm(5, _ROWS, _ROWS, augment=augment)
    draws = video_draws.epochs(videos, 0, 600, 0, form)
    places = [_place(clip) for clip in draws]
    for clip in draws:
      np.testing.assert_array_equal(np.diff(clip[:, 0, 0, 0].astype(int)), 1)
    counts = [collections.Counter(place[i] for place in places)
              for i in range(4)]
    expected = [{0}, set(range(4)), set(range(4)) if augment else {1},
                {False, True} if augment else {False}]
    for found, values in zip(counts, expected, strict=True):
      self.assertEqual(set(found), values)
      for count in found.values():  # 5 standard deviations and more.
        self.assertAlmostEqual(count, 600 / len(values), delta=55)

  def test_the_first_by_name_are_one_clip_a_video(self):
    videos = _Videos([9, 8, 4, 5, 11])
    form = video_draws.ClipForm(5, _ROWS, _ROWS, augment=False)
    draws = video_draws.first_by_name(videos, 3, 0, form)
    self.assertEqual([_place(clip)[0] for clip in draws], [4, 3, 1])
    with self.assertRaisesRegex(errors.UserError, 'has 4 videos.*the 5 to'):
      video_draws.first_by_name(videos, 5, 0, form)


class VideosTest(absltest.TestCase):

  def test_whole_videos_of_a_prepared_set(self):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for folder, name, frames in (('b', 'v_a.avi', 12), ('a', 'v_c.avi', 9),
                                 ('c', 'v_b.avi', 7), ('a', 'v_d.avi', 6)):
      video_files.write_video(root / 'in' / folder / name, frames)
    whole, cut = root / 'whole', root / 'cut'
    for path, clip_frames in ((whole, 100), (cut, 12)):
      prepare.prepare(root / 'in', path, prepare.Settings(
          size=16, min_frames=5, clip_frames=clip_frames, heldout=0.5))
    videos = video_draws.Videos(whole, ('train', 'heldout'))
    named = [(videos.labels[number], int(videos.lengths[number]))
             for number in videos.by_name]
    self.assertEqual(named, [('b', 12), ('c', 7), ('a', 9), ('a', 6)])
    self.assertEqual(videos.short_side, 16)
    form = video_draws.ClipForm(5, 16, 16, augment=True)
    draws = video_draws.epochs(videos, 0, 5, 0, form)
    self.assertEqual(np.stack(list(draws)).shape, (5, 5, 16, 16, 3))
    with self.assertRaisesRegex(errors.UserError, 'cut into clips of 12'):
      video_draws.Videos(cut, ('train', 'heldout'))
    with self.assertRaisesRegex(errors.UserError, 'no manifest'):
      video_draws.Videos(root / 'in', ('train',))


if __name__ == '__main__':
  absltest.main()
