"""Clips survive the round trip through files."""
import fractions
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import av
import numpy as np
from PIL import Image

from walt_jax.media import decode
from walt_jax.media import video


def smooth_clip(t: int, h: int, w: int) -> np.ndarray:
  """Moving colour ramps: uint8 [t, h, w, 3]."""
  frame, row, column = np.mgrid[:t, :h, :w].astype(np.float64)
  channels = [np.sin(6 * row / h + frame / 3), np.cos(5 * column / w),
              np.sin(4 * (row / h + column / w) - frame / 4)]
  return np.uint8(127.5 + 110 * np.stack(channels, -1))


def through_ffmpeg(image: np.ndarray) -> np.ndarray:
  """RGB to 4:2:0 with colour at the left pixels, and back, by libavfilter."""
  graph = av.filter.Graph()
  flags = 'bicubic+full_chroma_int+full_chroma_inp+accurate_rnd'
  steps = [('scale', f'flags={flags}:out_color_matrix=bt709:out_range=tv:'
            'out_chroma_loc=left'), ('format', 'yuv420p'),
           ('scale', f'flags={flags}:in_color_matrix=bt709:in_range=tv:'
            'in_chroma_loc=left'), ('format', 'rgb24'), ('buffersink', None)]
  graph.link_nodes(
      graph.add_buffer(width=image.shape[1], height=image.shape[0],
                       format='rgb24', time_base=fractions.Fraction(1, 8)),
      *(graph.add(name, arguments) for name, arguments in steps)).configure()
  graph.push(av.VideoFrame.from_ndarray(image, 'rgb24'))
  return graph.pull().to_ndarray()


class VideoTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  @parameterized.parameters((32, 32, 192, 192), (17, 31, 204, 372),
                            (193, 255, 194, 256), (8, 200, 192, 4800))
  def test_mp4_round_trip(self, height, width, out_height, out_width):
    clip = smooth_clip(5, height, width)
    path = self.folder / 'a.mp4'
    video.write_mp4(path, clip, 8)
    info, _ = decode.read_frames(path)
    read = decode.read_clip(path)
    self.assertEqual(read.shape, (5, out_height, out_width, 3))
    self.assertEqual(info.fps, 8)
    expected = video.enlarge(clip)[:, :out_height, :out_width]
    error = np.abs(
        read[:, :expected.shape[1], :expected.shape[2]].astype(int) - expected)
    self.assertLess(error.mean(), 3.0)
    self.assertEqual([p.name for p in self.folder.iterdir()], ['a.mp4'])

  def test_mp4_plays_in_browsers(self):
    path = self.folder / 'a.mp4'
    video.write_mp4(path, smooth_clip(17, 32, 32), 12.5)
    with av.open(str(path)) as container:
      stream = container.streams.video[0]
      self.assertEqual(stream.codec_context.name, 'h264')
      self.assertEqual(stream.codec_context.pix_fmt, 'yuv420p')
      self.assertEqual(stream.average_rate, 12.5)
      self.assertEqual(stream.frames, 17)
    content = path.read_bytes()
    self.assertLess(content.index(b'moov'), content.index(b'mdat'))

  def test_saturated_colours_keep_their_hue(self):
    colours = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255],
                        [255, 255, 255], [0, 0, 0], [200, 100, 50]])
    clip = np.tile(colours[None, None, :, None],
                   (2, 6, 1, 8, 1)).reshape(2, 6, 48, 3)
    path = self.folder / 'a.mp4'
    video.write_mp4(path, clip, 8)
    read = decode.read_clip(path)
    factor = read.shape[1] // 6
    centres = read[0, 3 * factor, 4 * factor::8 * factor].astype(int)
    np.testing.assert_allclose(centres, colours, atol=8)

  @parameterized.parameters(100, 101)
  def test_saturated_edges_stay_where_they_are(self, column):
    left, right = np.array([200, 40, 40]), np.array([40, 80, 200])
    clip = np.zeros((2, 192, 256, 3), np.uint8)
    clip[:, :, :column], clip[:, :, column:] = left, right
    path = self.folder / 'a.mp4'
    video.write_mp4(path, clip, 8, crf=1)
    read = decode.read_clip(path)[0].astype(float)
    np.testing.assert_allclose(read, through_ffmpeg(clip[0]), atol=6)
    # How far the edges of red and blue went to the left, in pixels.
    near = slice(column - 8, column + 8)
    moved = (read - clip[0])[96, near].sum(0) / (right - left)
    np.testing.assert_allclose(moved[::2], 0, atol=0.25)

  @parameterized.parameters('.gif', '.webp')
  def test_animation(self, suffix):
    path = self.folder / f'a{suffix}'
    clip = np.repeat(np.uint8([0, 120, 250]), 16 * 16 * 3)
    clip = clip.reshape(3, 16, 16, 3)
    video.write_animation(path, clip, 8, min_side=16)
    with Image.open(path) as image:
      self.assertEqual(image.n_frames, 3)
      image.seek(1)
      np.testing.assert_allclose(np.asarray(image.convert('RGB')), clip[1],
                                 atol=3)

  @parameterized.product(
      suffix=('.gif', '.webp', '.mp4'), fps=(8, 12.5, 25, 30000 / 1001))
  def test_a_clip_lasts_as_long_as_its_frames(self, suffix, fps):
    path = self.folder / f'a{suffix}'
    clip = np.random.default_rng(0).integers(
        0, 256, (17, 16, 16, 3), np.uint8)
    if suffix == '.mp4':
      video.write_mp4(path, clip, fps, min_side=16)
      with av.open(path) as container:  # FFmpeg's own account of the file.
        rate = container.streams.video[0].average_rate
      self.assertAlmostEqual(float(rate), fps, places=6)
      return
    video.write_animation(path, clip, fps, min_side=16)
    shown = []
    with Image.open(path) as image:
      for number in range(image.n_frames):
        image.seek(number)
        image.load()
        shown.append(image.info['duration'])
    tick = 10 if suffix == '.gif' else 1  # Milliseconds.
    ends = np.cumsum(shown)
    wanted = 1000 * np.arange(1, 18) / fps
    self.assertLessEqual(np.abs(ends - wanted).max(), tick / 2 + 1e-6)

  def test_png_is_lossless(self):
    clip = np.random.default_rng(0).integers(0, 256, (3, 7, 5, 3), np.uint8)
    video.write_png(self.folder / 'a.png', clip[0])
    np.testing.assert_array_equal(
        decode.read_image(self.folder / 'a.png'), clip[0])

  @parameterized.parameters(((2, 4, 4, 3), np.float32), ((4, 4, 3), np.uint8),
                            ((2, 4, 4, 1), np.uint8), ((0, 4, 4, 3), np.uint8))
  def test_wrong_clips_are_refused(self, shape, dtype):
    with self.assertRaises(ValueError):
      video.write_mp4(self.folder / 'a.mp4', np.zeros(shape, dtype), 8)
    self.assertEmpty(list(self.folder.iterdir()))


if __name__ == '__main__':
  absltest.main()
