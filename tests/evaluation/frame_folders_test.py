"""Folders of numbered images are clips where several frames are scored."""
import pathlib
import tempfile

from absl.testing import absltest
from PIL import Image

from tests.data import video_files
from tests.media import image_files
from walt_jax.core import errors
from walt_jax.evaluation import clip_sets


class FrameFoldersTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for clip, name in enumerate(('a.1', 'a.2')):  # No suffixes.
      (self.root / name).mkdir()
      for number in range(12):
        Image.new('RGB', (24, 16), (10 * clip + number,) * 3).save(
            self.root / name / f'{number}.png')

  def test_clips_or_images(self):
    clips = clip_sets.open_clips(self.root, frames=11)
    self.assertEqual(clips.names, ('a.1', 'a.2'))
    self.assertEqual(clips.stack()[..., 0, 0, 0].tolist(), [
        list(range(11)), list(range(10, 21))])
    for frames in (None, 1):
      images = clip_sets.open_clips(self.root, frames=frames)
      self.assertLen(images, 24)
      self.assertEqual(images.stack().shape, (24, 1, 16, 24, 3))
    one = clip_sets.open_clips(self.root / 'a.1', frames=2)
    self.assertEqual(one.stack()[0, :, 0, 0, 0].tolist(), [0, 1])

  def test_nothing_tells_their_rate(self):
    info = clip_sets.open_clips(self.root, frames=2).info()
    self.assertEqual((info.frames.mean, info.height, info.width, info.rate,
                      info.duration, info.container, info.codec,
                      info.lossless),
                     (12, 16, 24, None, None, 'images', 'png', True))

  def test_nothing_tells_the_rate_of_pages(self):
    root = self.root / 'pages'
    root.mkdir()
    frames = [Image.new('RGB', (24, 16), (k,) * 3) for k in range(5)]
    (root / 'a.tif').write_bytes(image_files.encoded(
        frames[0], 'TIFF', save_all=True, append_images=frames[1:]))
    info = clip_sets.open_clips(root, frames=3).info()
    self.assertEqual((info.frames.mean, info.rate, info.duration, info.codec,
                      info.lossless), (5, None, None, 'tiff', None))

  def test_images_are_of_the_kind_that_they_hold(self):
    for suffix, kind, lossless in (
        ('jpg', 'jpeg', False), ('jfif', 'jpeg', False), ('png', 'png', True),
        ('webp', 'webp', None)):
      root = self.root / suffix
      for number in range(2):
        root.mkdir(exist_ok=True)
        Image.new('RGB', (24, 16)).save(root / f'{number}.{suffix}')
      for frames in (1, 2):  # Images, or a folder of frames.
        info = clip_sets.open_clips(root, frames=frames).info()
        self.assertEqual((info.codec, info.lossless, info.rate),
                         (kind, lossless, None))

  def test_too_few_frames_in_one_piece(self):
    (self.root / 'a.2' / '5.png').unlink()
    clips = clip_sets.open_clips(self.root, frames=6)
    self.assertLen(clips[0], 6)
    with self.assertRaisesRegex(errors.UserError,
                                'a.2 .*1 frame missing between 4.png and 6'):
      clips[1]

  def test_kinds_are_not_mixed(self):
    video_files.write_video(self.root / 'v.mkv')
    with self.assertRaisesRegex(errors.UserError,
                                'mixes 2 folders of frames, 1 videos'):
      clip_sets.open_clips(self.root, frames=2)

  def test_animations_have_their_frames_and_rate(self):
    root = self.root / 'animated'
    root.mkdir()
    frames = [Image.new('RGB', (24, 16), (k,) * 3) for k in range(5)]
    (root / 'a.webp').write_bytes(image_files.encoded(
        frames[0], 'WEBP', save_all=True, append_images=frames[1:],
        duration=125, lossless=True))
    clips = clip_sets.open_clips(root, frames=3)
    self.assertEqual(clips.stack()[0, :, 0, 0, 0].tolist(), [0, 1, 2])
    info = clips.info()
    self.assertEqual((info.frames.mean, info.rate.mean, info.container),
                     (5, 8, 'webp'))
    self.assertAlmostEqual(info.duration.mean, 0.625)


if __name__ == '__main__':
  absltest.main()
