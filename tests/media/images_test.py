"""Images: upright, by the range of their values; animations by their times."""
import io
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import av
import numpy as np
from PIL import Image

from tests.media import image_files
from walt_jax.core import errors
from walt_jax.media import decode

_ROWS, _COLUMNS = np.mgrid[:24, :40]
# No turn or mirror maps it to itself.
PICTURE = np.stack([8 * _ROWS, 6 * _COLUMNS, 4 * _ROWS + 2 * _COLUMNS],
                   -1).astype(np.uint8)
_RAMP = np.linspace(0, 65535, 24 * 40).astype(np.uint16).reshape(24, 40)
_FLOATS = (_RAMP / 65535).astype(np.float32)
_DEEP = np.stack([_RAMP, _RAMP[::-1], _RAMP[:, ::-1]], -1)
_ALPHA = np.concatenate([_DEEP, _RAMP[..., None]], -1)
_DURATIONS = (100, 300, 200)  # Milliseconds.

# EXIF's orientations: the side of the picture where the first stored row lies,
# and the first stored column.
_SIDES = dict(zip(range(1, 9), (
    ('top', 'left'), ('top', 'right'), ('bottom', 'right'), ('bottom', 'left'),
    ('left', 'top'), ('right', 'top'), ('right', 'bottom'),
    ('left', 'bottom')), strict=True))


def _stored(picture: np.ndarray, orientation: int) -> np.ndarray:
  """What a camera stores of an upright picture."""
  row, column = _SIDES[orientation]
  if row in ('left', 'right'):
    picture = picture.swapaxes(0, 1)
  if row in ('right', 'bottom'):
    picture = picture[::-1]
  if column in ('right', 'bottom'):
    picture = picture[:, ::-1]
  return picture


def _read(data: bytes, name: str = 'a.png', **options):
  info, frames = decode.read_frames(name, data=data, **options)
  return info, np.stack(list(frames))


def _clip(count: int = 3) -> np.ndarray:
  """Frames of few colours, so that a palette holds them."""
  return np.stack([np.roll(PICTURE // 64 * 80, 3 * k, axis=1)
                   for k in range(count)])


def _animation(kind: str, frames: np.ndarray, **options) -> bytes:
  first, *rest = map(Image.fromarray, frames)
  return image_files.encoded(first, kind, save_all=True, append_images=rest,
                             **options)


class StillTest(parameterized.TestCase):

  @parameterized.product(
      orientation=tuple(range(1, 9)),
      kind=(('JPEG', dict(quality=100, subsampling=0), 4), ('PNG', {}, 0),
            ('WEBP', dict(lossless=True), 0), ('TIFF', {}, 0),
            ('TIFF', dict(compression='tiff_lzw'), 0),
            ('AVIF', dict(quality=100, subsampling='4:4:4'), 4)))
  def test_every_orientation_comes_out_upright(self, orientation, kind):
    name, options, atol = kind
    exif = Image.Exif()
    exif[0x112] = orientation
    if name == 'TIFF':
      options = options | dict(tiffinfo={0x112: orientation})
    else:
      options = options | dict(exif=exif)
    data = image_files.encoded(
        Image.fromarray(_stored(PICTURE, orientation)), name, **options)
    info, (image,) = _read(data)
    np.testing.assert_allclose(image.astype(int), PICTURE, atol=atol)
    self.assertEqual((info.height, info.width), PICTURE.shape[:2])

  @parameterized.named_parameters(
      ('png_grey', image_files.encoded(Image.fromarray(_RAMP), 'PNG'), _RAMP),
      ('png_colour', image_files.by_ffmpeg(_DEEP, 'rgb48be', 'png'), _DEEP),
      ('png_alpha', image_files.by_ffmpeg(_ALPHA, 'rgba64be', 'png'), _DEEP),
      ('pgm', b'P5 40 24 65535\n' + _RAMP.astype('>u2').tobytes(), _RAMP),
      ('ppm', b'P6 40 24 65535\n' + _DEEP.astype('>u2').tobytes(), _DEEP),
      ('tiff_grey', image_files.tiff(_RAMP), _RAMP),
      ('tiff_big_endian', image_files.tiff(_RAMP, order='>'), _RAMP),
      ('tiff_packed', image_files.encoded(
          Image.fromarray(_RAMP), 'TIFF', compression='tiff_lzw'), _RAMP),
      ('tiff_colour', image_files.tiff(_DEEP), _DEEP),
      ('tiff_white_is_zero', image_files.tiff(65535 - _RAMP, photometric=0),
       _RAMP),
      ('tiff_signed', image_files.tiff((_RAMP >> 1).astype(np.int16)), _RAMP),
      ('tiff_32_bits', image_files.tiff(_RAMP.astype(np.uint32) * 65537),
       _RAMP),
      ('tiff_float', image_files.tiff(_FLOATS), _RAMP),
      ('tiff_float_white_is_zero', image_files.tiff(1 - _FLOATS, photometric=0),
       _RAMP))
  def test_deep_pixels_are_scaled_by_their_range(self, data, wanted):
    _, (image,) = _read(data, 'a.tif')
    wanted = np.broadcast_to(
        wanted[..., None] if wanted.ndim == 2 else wanted, image.shape)
    # The exact value, and no more than the highest bits.
    np.testing.assert_array_less(np.abs(image - wanted / 257), 1)
    self.assertEqual((image.min(), image.max()), (0, 255))

  def test_grey_and_colour_of_one_depth_are_equal(self):
    grey = np.repeat(_RAMP[..., None], 3, axis=-1)
    _, (wanted,) = _read(image_files.by_ffmpeg(grey, 'rgb48be', 'png'))
    for data in (image_files.encoded(Image.fromarray(_RAMP), 'PNG'),
                 image_files.tiff(_RAMP), image_files.tiff(grey)):
      np.testing.assert_array_equal(_read(data)[1][0], wanted)

  @parameterized.named_parameters(
      ('palette', Image.fromarray(PICTURE // 64 * 80).quantize(64), 'PNG',
       PICTURE // 64 * 80),
      ('grey', Image.fromarray(PICTURE[..., 0]), 'PNG',
       PICTURE[..., :1].repeat(3, -1)),
      ('one_bit', Image.fromarray(PICTURE[..., 0] > 90), 'PNG',
       np.uint8(255) * (PICTURE[..., :1] > 90).repeat(3, -1)),
      ('grey_alpha', Image.fromarray(
          PICTURE[..., [0, 1]].copy()), 'PNG',
       PICTURE[..., :1].repeat(3, -1)),
      # The colour shows that is stored, also under transparent pixels.
      ('alpha', Image.fromarray(np.dstack([PICTURE, PICTURE[..., 0]])), 'PNG',
       PICTURE),
      ('cmyk', Image.merge('CMYK', [
          Image.fromarray(255 - PICTURE[..., k]) for k in range(3)] + [
              Image.new('L', (40, 24), 0)]), 'TIFF', PICTURE))
  def test_kinds_of_colour(self, image, kind, wanted):
    _, (found,) = _read(image_files.encoded(image, kind))
    np.testing.assert_array_equal(found, wanted)

  def test_adobes_cmyk_is_not_inverted(self):
    image = Image.fromarray(PICTURE).convert('CMYK')
    _, (found,) = _read(image_files.encoded(image, 'JPEG', quality=100))
    np.testing.assert_allclose(found.astype(int), PICTURE, atol=6)

  @parameterized.parameters(
      (image_files.tiff(_FLOATS * 3), 'from 0 to 3, where 0 is black'),
      (image_files.tiff(_FLOATS - 0.5), 'from -0.5 to 0.5'),
      (image_files.tiff(np.full((4, 4), np.nan, np.float32)), 'nan'),
      (image_files.tiff(_RAMP.astype(np.int16)), 'pixels down to -327.*no col'),
      (image_files.tiff(_DEEP, planes=True), '16-bit colours stored in planes'),
      (image_files.tiff(np.stack([_FLOATS] * 3, -1)), 'not read, as HEIC'),
      # Pillow would run a PostScript program on it.
      (image_files.encoded(Image.fromarray(PICTURE), 'EPS'),
       'not read, as HEIC'),
      (b'no image', 'not read, as HEIC'))
  def test_pixels_that_mean_nothing_are_refused(self, data, message):
    with self.assertRaisesRegex(decode.ClipError, message) as caught:
      _read(data, 'a.tif')
    self.assertNotIn('object at', str(caught.exception))

  def test_previews_and_other_eyes_are_no_frames(self):
    picture = Image.fromarray(PICTURE)
    small = PICTURE[::2, ::2]
    for data in (
        image_files.encoded(picture, 'MPO', save_all=True, quality=100,
                            append_images=[Image.fromarray(PICTURE[::-1])]),
        image_files.tiff(PICTURE, small, kinds=(0, 1))):
      info, frames = _read(data, 'a.jpg')
      self.assertEqual(info.frames, 1)
      np.testing.assert_allclose(frames[0, ..., 0].astype(int),
                                 PICTURE[..., 0], atol=8)


class AnimationTest(parameterized.TestCase):

  @parameterized.parameters(
      ('a.webp', 'WEBP', dict(lossless=True)), ('a.apng', 'PNG', {}),
      ('a.png', 'PNG', {}), ('a.gif', 'GIF', {}))
  def test_frames_are_shown_at_their_times(self, name, kind, options):
    clip = _clip()
    data = _animation(kind, clip, duration=list(_DURATIONS), loop=0, **options)
    info, frames = _read(data, name)
    np.testing.assert_array_equal(frames, clip)
    if name != 'a.gif':  # FFmpeg tells of GIFs what it guesses.
      self.assertAlmostEqual(info.fps, 5)
      self.assertEqual(info.frames, 3)
      self.assertAlmostEqual(info.duration, 0.6)
    _, frames = _read(data, name, fps=10)
    # FFmpeg's frames of GIFs last until the next; of the last, it guesses.
    wanted = clip[[0, 1, 1, 1, 2, 2]]
    np.testing.assert_array_equal(frames[:5], wanted[:5])
    if name != 'a.gif':
      np.testing.assert_array_equal(frames, wanted)
    if name != 'a.gif':
      _, frames = _read(data, name, fps=20, start=0.1, end=0.4)
      np.testing.assert_array_equal(frames, clip[[1] * 6])

  def test_apng_as_ffmpeg_reads_it(self):
    data = _animation('PNG', _clip(5), duration=[100, 50, 200, 100, 100],
                      disposal=2, blend=1)
    with av.open(io.BytesIO(data), format='apng') as container:
      shown = [(frame.time, frame.to_ndarray(format='rgb24'))
               for frame in container.decode(video=0)]
    _, frames = _read(data, fps=20)
    ticks = np.arange(len(frames)) / 20
    numbers = np.searchsorted([time for time, _ in shown], ticks + 1e-6,
                              'right') - 1
    self.assertEqual(numbers[-1], 4)
    np.testing.assert_array_equal(
        frames, np.stack([shown[number][1] for number in numbers]))

  def test_a_picture_for_those_who_know_no_animations_is_no_frame(self):
    data = _animation('PNG', _clip(4), duration=100, default_image=True)
    _, frames = _read(data)
    np.testing.assert_array_equal(frames, _clip(4)[1:])

  def test_untimed_frames_last_as_in_browsers(self):
    info, _ = _read(_animation('WEBP', _clip(), duration=0), 'a.webp')
    self.assertAlmostEqual(info.fps, 10)

  def test_pages_have_the_rate_that_is_asked_for(self):
    for pages in (_clip(4), _clip(4)[..., 0]):
      data = image_files.tiff(*pages)
      wanted = pages if pages.ndim == 4 else pages[..., None].repeat(3, -1)
      for fps, rate in ((None, 25), (8, 8)):
        info, frames = _read(data, 'a.tif', fps=fps)
        self.assertEqual((info.fps, info.frames), (rate, 4))
        self.assertAlmostEqual(info.duration, 4 / rate)
        np.testing.assert_array_equal(frames, wanted)
    deep = image_files.tiff(_RAMP, _RAMP[::-1])
    _, frames = _read(deep, 'a.tif')
    np.testing.assert_array_equal(frames[1, ..., 0], _RAMP[::-1] >> 8)

  def test_pages_of_unlike_sizes_are_damage(self):
    data = image_files.tiff(PICTURE, PICTURE, PICTURE[:12])
    _, frames = decode.read_frames('a.tif', data=data)
    self.assertLen([next(frames), next(frames)], 2)
    with self.assertRaisesRegex(
        decode.ClipError, 'picture 2 has 40x12 pixels, the first has 40x24'):
      next(frames)

  def test_an_image_is_one_picture(self):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for name, data in (
        ('a.webp', _animation('WEBP', _clip(), duration=100)),
        ('a.gif', _animation('GIF', _clip(), duration=100)),
        ('a.tif', image_files.tiff(*_clip()))):
      (root / name).write_bytes(data)
      with self.assertRaisesRegex(errors.UserError,
                                  f'{name} as an image .3 pictures'):
        decode.read_image(root / name)
      self.assertLen(decode.read_clip(root / name), 3)


class DamageTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('png', image_files.encoded(Image.fromarray(PICTURE), 'PNG')),
      ('deep_png', image_files.encoded(Image.fromarray(_RAMP), 'PNG')),
      ('jpeg', image_files.encoded(Image.fromarray(PICTURE), 'JPEG')),
      ('webp', _animation('WEBP', _clip(), duration=100)),
      ('apng', _animation('PNG', _clip(), duration=100)),
      ('tiff', image_files.tiff(*_clip())),
      ('packed_tiff', image_files.encoded(
          Image.fromarray(_RAMP), 'TIFF', compression='tiff_lzw')),
      ('avif', image_files.encoded(Image.fromarray(PICTURE), 'AVIF')),
      ('bmp', image_files.encoded(Image.fromarray(PICTURE), 'BMP')),
      ('ppm', image_files.encoded(Image.fromarray(PICTURE), 'PPM')))
  def test_damage_is_a_reason_and_never_a_traceback(self, data):
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
      broken = bytearray(data)
      if trial % 3:
        for place in rng.integers(0, min(len(data), 400), 3):
          broken[place] = rng.integers(256)
      else:
        broken = broken[:rng.integers(1, len(data))]
      try:
        _read(bytes(broken))
      except decode.ClipError as error:
        refused += 1
        self.assertNotIn('\n', str(error))
        self.assertNotIn('object at', str(error))
    self.assertGreater(refused, 10)


if __name__ == '__main__':
  absltest.main()
