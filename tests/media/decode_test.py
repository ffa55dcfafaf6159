"""Reading files: rates, segments, rotation, sizes, images; all that is bad."""
import contextlib
import functools
import gc
import os
import pathlib
import tempfile
import tracemalloc

from absl.testing import absltest
from absl.testing import parameterized
import av
import numpy as np
from PIL import Image

from tests.data import video_files
from walt_jax.core import errors
from walt_jax.core import pixels
from walt_jax.data.prepare import prepare
from walt_jax.media import decode

write_video = video_files.write_video


def short_side(side):
  """The size of frames whose shorter side is so long."""
  return functools.partial(pixels.cover, height=side, width=side)


def _levels(path, **options):
  """Brightness of each frame, and what the file says of itself."""
  info, frames = decode.read_frames(path, **options)
  return np.array([frame.mean() for frame in frames]), info


class DecodeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_a_title_that_is_not_utf8(self):
    path = self.root / 'a.mkv'
    with av.open(str(path), 'w', format='matroska') as container:
      container.metadata['title'] = 'TITLE OF THIS CLIP'
      stream = container.add_stream('mpeg4', rate=10)
      stream.width, stream.height, stream.pix_fmt = 32, 24, 'yuv420p'
      frame = av.VideoFrame.from_ndarray(
          np.full((24, 32, 3), 90, np.uint8), format='rgb24')
      for packet in (*stream.encode(frame), *stream.encode()):
        container.mux(packet)
    data = path.read_bytes()
    self.assertIn(b'TITLE', data)
    path.write_bytes(data.replace(b'TITLE', b'\xe9\xff\xfeLE'))
    levels, _ = _levels(path)
    np.testing.assert_allclose(levels, [90], atol=2)

  def test_other_rates(self):
    path = self.root / 'v.mkv'
    write_video(path, num_frames=20, rate=10)
    for fps, count in ((10, 20), (5, 10), (20, 40), (8, 16)):
      levels, info = _levels(path, fps=fps, size=short_side(16))
      self.assertEqual(info.fps, fps)
      shown = np.floor(np.arange(count) * 10 / fps + 1e-6)
      np.testing.assert_allclose(levels, 10 * shown, atol=4)

  def test_frames_are_freed_when_they_have_been_read(self):
    path = self.root / 'v.mkv'
    write_video(path, num_frames=30, rate=10)
    gc.collect()
    gc.disable()
    self.addCleanup(gc.enable)
    _levels(path)
    self.assertLess(gc.collect(), 30)  # Not one a frame.

  def test_variable_rate_comes_out_constant(self):
    path = self.root / 'v.mkv'
    times = [0.0, 0.1, 0.2, 0.3, 0.8, 0.9, 1.0, 2.0]
    write_video(path, num_frames=8, times=times)
    levels, _ = _levels(path, fps=10)
    ticks = np.arange(len(levels)) / 10
    shown = np.searchsorted(times, ticks + 1e-6, side='right') - 1
    np.testing.assert_allclose(levels, 10 * shown, atol=4)
    self.assertGreaterEqual(len(levels), 21)

  def test_segments(self):
    path = self.root / 'v.mkv'
    write_video(path, num_frames=24, rate=10)
    for start, end, first, count in ((None, 0.5, 0, 5), (1.0, 1.5, 10, 5),
                                     (2.0, None, 20, 4), (0.55, 0.85, 6, 3)):
      levels, _ = _levels(path, start=start, end=end)
      np.testing.assert_allclose(levels, 10 * (first + np.arange(count)),
                                 atol=4)
    with self.assertRaisesRegex(decode.ClipError, 'no frame'):
      decode.read_frames(path, start=9.0)

  @parameterized.parameters((90, (0, 1)), (180, (1, 1)), (270, (1, 0)))
  def test_rotated_files_come_out_upright(self, degrees, corner):
    path = self.root / 'v.mp4'
    write_video(path, value=20, rotation=degrees, size=(48, 32))
    info, frames = decode.read_frames(path, size=short_side(16))
    frame = next(frames)
    turned = degrees % 180 != 0
    self.assertEqual(frame.shape, (24, 16, 3) if turned else (16, 24, 3))
    self.assertEqual((info.height, info.width), frame.shape[:2])
    halves = frame[..., 0].reshape(2, frame.shape[0] // 2, 2, -1).mean((1, 3))
    self.assertEqual(np.unravel_index(halves.argmax(), (2, 2)), corner)

  def test_odd_sizes(self):
    path = self.root / 'v.avi'
    write_video(path, size=(33, 25), codec='ffv1')
    info, frames = decode.read_frames(path)
    self.assertEqual(next(frames).shape, (25, 33, 3))
    info, _ = decode.read_frames(path, size=short_side(15))
    self.assertEqual((info.height, info.width), (15, 20))

  def test_images(self):
    image = Image.fromarray(np.full((20, 30, 3), 99, np.uint8))
    exif = Image.Exif()
    exif[0x112] = 6  # Lies on its side.
    image.save(self.root / 'a.jpg', exif=exif)
    image.convert('P').save(self.root / 'b.png')
    image.convert('CMYK').save(self.root / 'c.jpg')
    for name, shape in (('a.jpg', (15, 10, 3)), ('b.png', (10, 15, 3)),
                        ('c.jpg', (10, 15, 3))):
      info, frames = decode.read_frames(self.root / name,
                                        size=short_side(10))
      frame, = frames
      self.assertEqual(frame.shape, shape)
      np.testing.assert_allclose(frame, 99, atol=12)  # Dithered.

  def test_parts_of_a_clip(self):
    path = self.root / 'v.mkv'
    write_video(path, num_frames=12, rate=10)
    np.save(self.root / 'v.npy', decode.read_clip(path))
    for name in ('v.mkv', 'v.npy'):
      for options, kept in (({}, range(12)), (dict(first=3), range(3)),
                            (dict(last=4), range(8, 12)),
                            (dict(first=99), range(12)),
                            (dict(last=99), range(12))):
        clip = decode.read_clip(self.root / name, **options)
        np.testing.assert_allclose(clip.mean((1, 2, 3)), 10 * np.array(kept),
                                   atol=4)
    clip = decode.read_clip(path, fps=5, size=short_side(12), last=3)
    self.assertEqual(clip.shape, (3, 12, 16, 3))
    np.testing.assert_allclose(clip.mean((1, 2, 3)), [60, 80, 100], atol=4)

  def test_what_is_not_kept_may_not_be_damaged_either(self):
    path = self.root / 'v.mp4'
    write_video(path, num_frames=40, rate=10, size=(64, 64))
    video_files.cut_video(path, 0.6)
    for options in ({}, dict(first=4), dict(last=4)):
      with self.assertRaisesRegex(errors.UserError, 'v.mp4.*damaged: .*'):
        decode.read_clip(path, **options)
    # Who asks for the first frames alone gets them.
    clip = decode.read_clip(path, first=4, rest=False)
    np.testing.assert_allclose(
        clip.mean((1, 2, 3)), 10 * np.arange(4), atol=4)

  @parameterized.parameters('a.mp4', 'a.npy', 'a.png', 'a.txt')
  def test_unreadable_files_are_named(self, name):
    path = self.root / name
    for content, said in ((None, 'no such'), (b'this is no video', 'cannot')):
      if content is not None:
        path.write_bytes(content)
      for read in (decode.read_clip, decode.read_image):
        with self.assertRaisesRegex(errors.UserError, f'{said}.*{name}'
                                    ) as caught:
          read(path)
        self.assertNotIn('\n', str(caught.exception))


class BadFilesTest(absltest.TestCase):
  """Nothing is lost silently, nothing is fatal, all is in the manifest."""

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.input, self.output = root / 'in', root / 'out'
    self.input.mkdir()

  def _prepare(self):
    manifest = prepare.prepare(
        self.input, self.output,
        prepare.Settings(size=16, min_frames=5, clip_frames=12))
    counts = manifest['counts']
    self.assertEqual(counts['used'] + counts['rejected'], counts['files'])
    return manifest, {r['file']: r['reason'] for r in manifest['rejected']}

  def test_all_kinds(self):
    good = self.input / 'good.avi'
    write_video(good, num_frames=40)
    data = good.read_bytes()
    (self.input / 'empty.avi').write_bytes(b'')
    (self.input / 'text.avi').write_text('not a video at all')
    # FFmpeg would draw it, or follow it to another file.
    (self.input / 'README.txt').write_text('words\n' * 100)
    (self.input / 'list.m3u8').write_text(
        f'#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n')
    (self.input / 'list.ffconcat').write_text(
        f"ffconcat version 1.0\nfile '{good}'\n")
    (self.input / 'header.avi').write_bytes(data[:600])
    (self.input / 'cut.avi').write_bytes(data[:len(data) * 2 // 3])
    noise = np.random.default_rng(0).integers(0, 256, 900)
    (self.input / 'noisy.avi').write_bytes(
        data[:-1000] + noise.astype(np.uint8).tobytes())
    write_video(self.input / 'cut.mkv', num_frames=100, size=(64, 64))
    data = (self.input / 'cut.mkv').read_bytes()
    (self.input / 'cut.mkv').write_bytes(data[:len(data) * 2 // 3])
    write_video(self.input / 'none.mkv', num_frames=0)
    write_video(self.input / 'short.avi', num_frames=3)
    write_video(self.input / 'one.avi', num_frames=1)
    (self.input / 'link.avi').symlink_to('nowhere.avi')
    (self.input / 'noise.jpg').write_bytes(b'\xff\xd8\xff\xe0 no image')
    os.mkfifo(self.input / 'pipe.avi')
    (self.input / '.hidden').write_text('x')
    (self.input / 'sub').mkdir()
    (self.input / 'sub' / 'loop').symlink_to(self.input)
    video_files.write_sound(self.input / 'sound.wav')
    manifest, rejected = self._prepare()
    for name, reason in (
        ('empty.avi', 'empty'), ('text.avi', 'Invalid'),
        ('README.txt', ''), ('list.m3u8', ''), ('list.ffconcat', ''),
        ('header.avi', ''), ('none.mkv', ''), ('short.avi', 'shorter than 5'),
        ('one.avi', 'shorter than 5'), ('link.avi', 'cannot read'),
        ('noise.jpg', 'Error: '), ('pipe.avi', 'not a regular file'),
        ('sub/loop', 'seen already'), ('sound.wav', 'no video stream')):
      self.assertIn(reason, rejected.pop(name))
    self.assertEmpty(rejected)
    counts = manifest['counts']
    self.assertEqual((counts['files'], counts['used'], counts['hidden']),
                     (18, 4, 1))
    damaged = {d['file']: d['reason'] for d in manifest['damaged']}
    # Whether the decoder sees the cut or stumbles over it depends on where a
    # frame ends.
    self.assertRegex(
        damaged['cut.avi'],
        'ends after .* seconds, at .*; kept')
    self.assertRegex(damaged['cut.mkv'], 'ends after .* seconds, at .*; kept')
    self.assertNotIn('good.avi', damaged)

  def test_huge_frames_and_long_videos(self):
    # A header that claims 60000 x 60000 pixels, and one of 9000 x 40.
    write_video(self.input / 'wide.mkv', size=(9000, 40), num_frames=6,
                codec='ffv1')
    image = Image.new('1', (1, 1))
    image.save(self.input / 'bomb.png')
    data = bytearray((self.input / 'bomb.png').read_bytes())
    data[16:24] = (60_000).to_bytes(4, 'big') * 2
    import zlib
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, 'big')
    (self.input / 'bomb.png').write_bytes(data)
    write_video(self.input / 'long.avi', num_frames=600)
    tracemalloc.start()
    manifest, rejected = self._prepare()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    self.assertLess(peak, 100e6)
    self.assertRegex(rejected.pop('bomb.png'), '60000x60000.*too large|exceed')
    self.assertEmpty(rejected)
    self.assertEqual(manifest['counts']['clips'], 1 + 50)

  def test_unreadable_files_and_folders(self):
    write_video(self.input / 'good.avi')
    write_video(self.input / 'secret.avi')
    write_video(self.input / 'closed' / 'a.avi')
    (self.input / 'secret.avi').chmod(0)
    (self.input / 'closed').chmod(0)
    with contextlib.ExitStack() as stack:
      if os.geteuid() == 0:  # Who may read all.
        self.output.mkdir()
        for folder in (self.input.parent, self.output):
          folder.chmod(0o777)
        nobody = 65534
        os.seteuid(nobody)
        stack.callback(os.seteuid, 0)
      _, rejected = self._prepare()
    (self.input / 'closed').chmod(0o755)
    self.assertRegex(rejected['secret.avi'], 'Permission denied')
    self.assertRegex(rejected['closed'], 'cannot list: Permission denied')


if __name__ == '__main__':
  absltest.main()
