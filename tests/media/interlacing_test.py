"""Interlaced frames, against libavfilter's bwdif."""
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.media import rgb_test
from tests.media import timed_files
from walt_jax.media import decode

_BWDIF = 'bwdif=mode=send_frame:parity=auto:deint=interlaced'


def _fields(num_frames=8, height=64, width=96) -> list[np.ndarray]:
  """Frames whose odd rows were seen half a frame later: a bar that moves."""
  def seen(time):
    at = np.arange(width) - 6 * time - 20
    return np.where((at >= 0) & (at < 12), 220, 40)[None, :, None]
  rows = np.arange(height)[:, None, None] % 2
  return [np.uint8(np.where(rows, seen(k + 0.5), seen(k))).repeat(3, 2)
          for k in range(num_frames)]


class InterlacingTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def _write(self, name, is_interlaced, frames):
    path = self.root / name
    order = 'tff=1' if is_interlaced else 'bframes=2'
    rgb_test.write(path, frames, 'libx264', 'yuv420p',
                   options={'x264-params': f'qp=4:{order}:keyint=4'})
    return path

  def _combs(self, clip) -> float:
    """How much rows differ from the mean of their neighbours."""
    clip = clip.astype(float)
    return np.abs(clip[:, 1:-1] - (clip[:, :-2] + clip[:, 2:]) / 2).mean()

  @parameterized.parameters('a.mp4', 'a.mkv', 'a.ts')
  def test_is_that_of_bwdif(self, name):
    frames = _fields()
    path = self._write(name, True, frames)
    reader = decode.Reader(path)
    segment, = ([*s.frames] for s in reader.segments())
    self.assertEqual(reader.info.deinterlaced, len(frames))
    self.assertEqual(reader.info.fps, 25)
    expected = rgb_test.filtered(
        path, _BWDIF, f'scale=flags={rgb_test._LEFT}')
    np.testing.assert_array_equal(np.stack(segment), expected)
    self.assertLess(self._combs(expected), self._combs(np.stack(frames)) / 5)

  def test_progressive_frames_stay_as_they_are(self):
    path = self._write('a.mkv', False, _fields())
    reader = decode.Reader(path)
    segment, = ([*s.frames] for s in reader.segments())
    self.assertEqual(reader.info.deinterlaced, 0)
    np.testing.assert_array_equal(
        np.stack(segment),
        rgb_test.filtered(path, f'scale=flags={rgb_test._LEFT}'))

  def test_both_in_one_file(self):
    calm = self._write('calm.h264', False, _fields())
    combed = self._write('combed.h264', True, _fields())
    path = self.root / 'both.h264'
    timed_files.join(path, calm, combed, calm)
    reader = decode.Reader(path)
    clip = np.concatenate(
        [np.stack(list(s.frames)) for s in reader.segments()])
    self.assertEqual(reader.info.deinterlaced, 8)
    # bwdif looks one frame ahead and one back: pixels where all are marked.
    expected = rgb_test.filtered(
        path, _BWDIF, f'scale=flags={rgb_test._LEFT}')
    np.testing.assert_array_equal(clip, expected)

  def test_times_stay(self):
    path = self._write('a.mkv', True, _fields())
    for fps, count in ((25, 8), (50, 16), (12.5, 4)):
      _, frames = decode.read_frames(path, fps=fps)
      self.assertLen(list(frames), count)


if __name__ == '__main__':
  absltest.main()
