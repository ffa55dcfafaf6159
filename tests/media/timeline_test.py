"""Times of every kind: gaps, steps back, late starts, parts, joined files."""
import functools
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image

from tests.media import timed_files
from walt_jax.core import errors
from walt_jax.media import decode

_ALL = list(range(50))
_EVEN = [k / 25 for k in _ALL]


def _gap(path):
  timed_files.write(path, times=_EVEN[:20] + [3600 + t for t in _EVEN[20:]])


def _late(path):
  timed_files.write(path, times=[100 + t for t in _EVEN])


def _still(path):
  timed_files.write(path, times=_EVEN[:20] + [1.5 + t for t in _EVEN[20:]])


def _joined(path, sizes=((64, 48), (64, 48))):
  parts = [path.with_name(f'{k}{path.suffix}') for k in range(2)]
  for part, size in zip(parts, sizes, strict=True):
    timed_files.write(part, size=size)
  timed_files.join(path, *parts)


def _cut(path, first=0):
  """A lossless cut: copied from a key frame, shown from a later frame."""
  timed_files.write(path.with_name('whole.mp4'))
  timed_files.copy(path.with_name('whole.mp4'), path, first)


class TimelineTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def _read(self, path, **options):
    reader = decode.Reader(path, **options)
    return [timed_files.numbers(segment.frames)
            for segment in reader.segments()], reader.info

  @parameterized.named_parameters(
      ('even_mp4', 'a.mp4', timed_files.write, [_ALL], ''),
      ('even_mkv', 'a.mkv', timed_files.write, [_ALL], ''),
      ('even_ts', 'a.ts', timed_files.write, [_ALL], ''),
      ('raw', 'a.h264', timed_files.write, [_ALL], ''),
      ('gap_mp4', 'a.mp4', _gap, [_ALL[:20], _ALL[20:]], 'shown for 3600'),
      ('gap_mkv', 'a.mkv', _gap, [_ALL[:20], _ALL[20:]], 'shown for 3600'),
      ('late_mkv', 'a.mkv', _late, [_ALL], ''),
      ('late_ts', 'a.ts', _late, [_ALL], ''),
      ('joined_ts', 'a.ts', _joined, [_ALL, _ALL], 'go back by 1.96'),
      ('sizes', 'a.h264', functools.partial(
          _joined, sizes=((64, 48), (48, 32))), [_ALL, _ALL],
       'size from 64x48 to 48x32'),
      ('cut_at_a_key', 'a.mp4', _cut, [_ALL], ''),
      ('cut_between', 'a.mp4', functools.partial(_cut, first=7), [_ALL[7:]],
       ''))
  def test_segments(self, name, make, expected, reason):
    path = self.root / name
    make(path)
    for fps in (None, 25, 50):
      segments, info = self._read(path, fps=fps)
      self.assertEqual(segments, [
          [k for k in part for _ in range(2 if fps == 50 else 1)]
          for part in expected])
      self.assertEqual((info.fps, info.damage), (fps or 25, ()))
      self.assertLen(info.cuts, len(expected) - 1)
      for place in info.cuts:
        self.assertIn(reason, place.reason)
        self.assertEqual(place.frame, len(expected[0]))
        self.assertAlmostEqual(place.time, len(expected[0]) / 25, delta=0.05)
    probed = decode.probe(path)  # From the packets alone.
    self.assertEqual((probed.fps, probed.frames),
                     (25, sum(map(len, expected))))
    self.assertAlmostEqual(probed.duration, probed.frames / 25, delta=0.05)
    if 'sizes' not in self.id():
      self.assertEqual([place.reason for place in probed.cuts],
                       [place.reason for place in info.cuts])

  def test_a_picture_that_stands_still_is_no_gap(self):
    path = self.root / 'a.mkv'
    _still(path)
    (numbers,), info = self._read(path, fps=25)
    ticks = np.arange(len(numbers)) / 25
    times = np.array(_EVEN) + 1.5 * (np.arange(50) >= 20)
    self.assertEqual(numbers, (
        np.searchsorted(times, ticks + 1e-4, side='right') - 1).tolist())
    self.assertEqual(info.cuts, ())

  def test_the_last_picture_of_an_animation_lasts(self):
    path = self.root / 'a.gif'
    pictures = [Image.new('L', (16, 16), 30 + 2 * k) for k in range(3)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:],
                     duration=[100, 200, 400])
    (numbers,), _ = self._read(path, fps=10)
    self.assertEqual(numbers, [0, 1, 1, 2, 2, 2, 2])

  @parameterized.product(
      name=('a.mp4', 'a.mkv', 'a.ts', 'a.h264'),
      make=(timed_files.write, _late),
      part=((0.2, 0.6, 5, 15), (1.0, 1.48, 25, 37), (1.52, None, 38, 50),
            (None, 0.4, 0, 10)))
  def test_parts(self, name, make, part):
    if make is _late and not name.endswith(('.mkv', '.ts')):
      return
    start, end, first, last = part
    path = self.root / name
    make(path)
    segments, info = self._read(path, start=start, end=end)
    self.assertEqual(segments, [list(range(first, last))])
    self.assertEqual((info.cuts, info.damage), ((), ()))

  def test_whole_clips_do_not_reach_over_a_gap(self):
    path = self.root / 'a.mp4'
    _gap(path)
    for options in ({}, dict(first=21), dict(last=31)):
      with self.assertRaisesRegex(errors.UserError, 'a.mp4.*shown for 3600'):
        decode.read_clip(path, **options)
    self.assertEqual(timed_files.numbers(decode.read_clip(path, first=20)),
                     _ALL[:20])
    self.assertEqual(timed_files.numbers(decode.read_clip(path, last=30)),
                     _ALL[20:])
    _, frames = decode.read_frames(path)
    with self.assertRaisesRegex(decode.ClipError, 'shown for 3600'):
      list(frames)


if __name__ == '__main__':
  absltest.main()
