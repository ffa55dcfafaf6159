"""What is known of a file before it is decoded."""
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image

from tests.data import video_files
from walt_jax.media import decode


class ProbeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  @parameterized.parameters(
      ('a.mp4', 'libx264', 'mp4', 'h264', False),
      ('a.mov', 'mpeg4', 'mov', 'mpeg4', False),
      ('a.mkv', 'ffv1', 'matroska', 'ffv1', True),
      ('a.avi', 'mpeg4', 'avi', 'mpeg4', False))
  def test_headers(self, name, encoder, container, codec, lossless):
    path = self.root / name
    video_files.write_video(path, num_frames=30, rate=10, size=(48, 32),
                            codec=encoder)
    info = decode.probe(path)
    self.assertEqual((info.fps, info.height, info.width), (10, 32, 48))
    self.assertEqual((info.container, info.codec, info.lossless),
                     (container, codec, lossless))
    self.assertAlmostEqual(info.duration, 3.0, delta=0.1)

  def test_image(self):
    Image.new('RGB', (30, 20)).save(self.root / 'a.png')
    info = decode.probe(self.root / 'a.png')
    self.assertEqual((info.height, info.width, info.frames), (20, 30, 1))

  def test_not_a_video(self):
    (self.root / 'a.mp4').write_text('no video')
    video_files.write_sound(self.root / 'a.wav')
    for name in ('a.mp4', 'a.wav'):
      with self.assertRaises(decode.ClipError):
        decode.probe(self.root / name)

  def test_reader_tells_what_it_yields(self):
    path = self.root / 'a.mkv'
    video_files.write_video(path, num_frames=12, rate=10)
    reader = decode.Reader(path, fps=5)
    (segment,) = ((s.time, np.stack(list(s.frames)))
                  for s in reader.segments())
    self.assertEqual(segment[0], 0.0)
    self.assertEqual(segment[1].shape, (6, 24, 32, 3))
    self.assertEqual(reader.info.fps, 5)


if __name__ == '__main__':
  absltest.main()
