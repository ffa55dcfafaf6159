"""Folders of numbered images: which are clips, and how they are read."""
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image

from walt_jax.core import errors
from walt_jax.media import decode
from walt_jax.media import frame_folders


def _numbered(count, first=1, pattern='{:05d}.png'):
  return [pattern.format(number) for number in range(first, first + count)]


class RuleTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('padded', _numbered(12), 12),
      ('from_zero', _numbered(3, 0), 3),
      ('unpadded', _numbered(12, 1, '{}.jpg'), 12),
      ('text', _numbered(4, 7, 'frame_{:03d}.JPG'), 4),
      ('dots', _numbered(4, 1, 'a.b.{:04d}.png'), 4),
      ('digits_before', _numbered(4, 8, '2024-01-02_{}.webp'), 4),
      ('past_the_padding', _numbered(6, 97, '{:02d}.png'), 6),
      ('holes', ['1.png', '2.png', '3.png', '6.png'], 4),
      ('mostly_holes', ['1.png', '2.png', '9.png'], 0),
      ('one', ['1.png'], 0),
      ('none', [], 0),
      ('unlike_texts', ['a1.png', 'b2.png'], 0),
      ('unlike_kinds', ['1.png', '2.jpg'], 0),
      ('equal_numbers', ['1.png', '01.png', '2.png'], 0),
      ('words', ['cat.png', 'dog.png'], 0),
      ('number_first', ['1_a.png', '2_a.png'], 0),
      ('more_than_images', [*_numbered(4), 'notes.txt'], 0),
      ('captions', [*_numbered(4), '00001.txt'], 0),
      ('videos', _numbered(4, 1, '{}.mp4'), 0),
      ('imagenet', ['n01440764_10026.JPEG', 'n01440764_10027.JPEG',
                    'n01440764_10029.JPEG', 'n01440764_11155.JPEG'], 0))
  def test_which_folders_are_clips(self, names, count):
    frames = frame_folders.frames_of(names[::-1])
    self.assertLen(frames, count)
    if count:
      self.assertEqual([frame.name for frame in frames], names)


class ReadTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def _write(self, *numbers, size=(20, 10), pattern='{:05d}.png'):
    """Frames that are filled with their numbers."""
    for number in numbers:
      Image.new('RGB', size, (number,) * 3).save(
          self.root / pattern.format(number))

  def _segments(self, **options):
    reader = decode.Reader(self.root, **options)
    return reader, [(segment.time, [int(frame.mean()) for frame in
                                    segment.frames])
                    for segment in reader.segments()]

  @parameterized.parameters((None, 25.0), (8.0, 8.0))
  def test_the_rate_is_the_one_asked_for(self, fps, rate):
    self._write(*range(1, 13), pattern='{}.png')  # 10 comes after 9.
    (self.root / '.DS_Store').write_bytes(b'x')
    reader, segments = self._segments(fps=fps)
    self.assertEqual(segments, [(0.0, list(range(1, 13)))])
    info = reader.info
    self.assertEqual(
        (info.fps, info.frames, info.height, info.width, info.container,
         info.codec, info.lossless, info.cuts, info.damage),
        (rate, 12, 10, 20, 'images', 'png', True, (), ()))
    self.assertAlmostEqual(info.duration, 12 / rate)
    self.assertEqual(decode.probe(self.root).frames, 12)

  def test_parts_in_time(self):
    self._write(*range(20))
    for start, end, wanted in ((None, 0.5, range(5)), (1.0, 1.5, range(10, 15)),
                               (1.8, None, range(18, 20))):
      _, segments = self._segments(fps=10, start=start, end=end)
      self.assertEqual(segments, [(0.0, list(wanted))])
    with self.assertRaisesRegex(decode.ClipError, 'no frame'):
      self._segments(fps=10, start=3.0)

  def test_a_missing_number_is_a_cut(self):
    self._write(1, 2, 3, 6, 7, 9)
    reader, segments = self._segments(fps=10)
    # Times leave gaps out.
    self.assertEqual(segments, [(0.0, [1, 2, 3]), (0.3, [6, 7]), (0.5, [9])])
    self.assertEqual(
        [(cut.time, cut.frame, cut.reason) for cut in reader.info.cuts],
        [(0.3, 3, '2 frames missing between 00003.png and 00006.png'),
         (0.5, 5, '1 frame missing between 00007.png and 00009.png')])
    self.assertEqual(reader.info.damage, ())
    # What is not taken of a segment is no segment of its own.
    self.assertEqual([int(next(segment.frames).mean()) for segment in
                      decode.Reader(self.root).segments()], [1, 6, 9])

  def test_a_damaged_frame_is_told_and_the_rest_kept(self):
    self._write(1, 2, 3, 4, 5)
    (self.root / '00003.png').write_bytes(b'no image')
    reader, segments = self._segments(fps=10)
    self.assertEqual(segments, [(0.0, [1, 2]), (0.2, [4, 5])])
    damage, = reader.info.damage
    self.assertEqual((damage.time, damage.frame), (0.2, 2))
    self.assertRegex(damage.reason, '00003.png: .*format that is not read')
    self.assertEqual(reader.info.cuts, ())
    for options in ({}, dict(last=2), dict(first=2)):
      with self.assertRaisesRegex(errors.UserError, '00003.png: .*format'):
        decode.read_clip(self.root, **options)
    self.assertLen(decode.read_clip(self.root, first=2, rest=False), 2)

  def test_clips_are_of_one_piece(self):
    self._write(1, 2, 3, 6, 7)
    for options, wanted in ((dict(first=2), [1, 2]), (dict(first=3), [1, 2, 3]),
                            (dict(last=2), [6, 7]), (dict(last=1), [7])):
      clip = decode.read_clip(self.root, **options)
      self.assertEqual(clip.mean((1, 2, 3)).tolist(), wanted)
    for options in ({}, dict(first=4), dict(last=3)):
      with self.assertRaisesRegex(errors.UserError, '2 frames missing between'):
        decode.read_clip(self.root, **options)

  def test_unlike_sizes_are_no_clip(self):
    self._write(1, 2)
    self._write(3, size=(20, 11))
    with self.assertRaisesRegex(
        decode.ClipError, '00003.png has 20x11 pixels, frames before it 20x10'):
      self._segments()

  def test_sizes_are_those_of_images(self):
    rng = np.random.default_rng(0)
    for number in range(2):
      Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(
          self.root / f'{number}.png')
    size = lambda height, width: (height // 2, width // 2)
    clip = decode.read_clip(self.root, size=size)
    for number, frame in enumerate(clip):
      image = decode.read_clip(self.root / f'{number}.png', size=size)
      np.testing.assert_array_equal(frame, image[0])

  def test_other_folders_are_refused(self):
    with self.assertRaisesRegex(errors.UserError, 'this is none'):
      decode.read_clip(self.root)
    self._write(1, 2)
    (self.root / '3.png').mkdir()
    with self.assertRaisesRegex(errors.UserError, 'this is none'):
      decode.read_clip(self.root)


if __name__ == '__main__':
  absltest.main()
