"""Damaged files: what is kept is sound, and what is missing is told."""
import hashlib
import pathlib
import re
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import av
import numpy as np

from tests.media import timed_files
from walt_jax.core import errors
from walt_jax.media import containers
from walt_jax.media import decode
from walt_jax.media import stream_decoder
from walt_jax.media import truncation

_GOP = 12
_NUM_FRAMES = 60
_X265 = {'x265-params': f'keyint={_GOP}:log-level=none:pools=none:'
                        'frame-threads=1'}


def _noise(data, at):
  data[at:at + 200] = np.random.default_rng(0).bytes(200)


def _zero(data, at):
  data[at:at + 2000] = bytes(2000)


def _drop(data, at):
  del data[at:at + 10 * 188]


def _cut(data, at):
  del data[at:]


class DamageTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def _write(self, path, codec='libx264', sound=False):
    timed_files.write(
        path, _NUM_FRAMES, codec=codec, gop=_GOP, sound=sound, size=(96, 64),
        options=_X265 if codec == 'libx265' else None)

  def _damage(self, path, how, part):
    """Damages a file a part of the way through its pictures."""
    with av.open(str(path)) as container:
      places = [packet.pos for packet in container.demux(video=0)
                if packet.size]
    data = bytearray(path.read_bytes())
    how(data, places[int(part * len(places))] + 30)
    path.write_bytes(data)

  @parameterized.product(
      kind=(('a.mp4', 'libx264'), ('a.mkv', 'libx264'), ('a.ts', 'libx264'),
            ('a.mkv', 'libx265'), ('a.mkv', 'mpeg2video'), ('a.avi', 'mpeg4'),
            ('a.mkv', 'ffv1'), ('a.mkv', 'mjpeg'), ('a.webm', 'libvpx-vp9')),
      how=(_noise, _zero, _drop), part=(0.3, 0.6))
  def test_what_is_kept_is_sound(self, kind, how, part):
    name, codec = kind
    if how is _drop and not name.endswith(('.ts', '.mkv', '.webm')):
      return  # Index and data no longer fit together.
    if how is _noise and codec in ('mpeg2video', 'libvpx-vp9'):
      return  # Their codes have no checks: nobody can tell noise from data.
    path = self.root / name
    self._write(path, codec)
    sound = {_digest(frame): number
             for number, frame in enumerate(decode.read_clip(path))}
    self.assertLen(sound, _NUM_FRAMES)
    self._damage(path, how, part)
    reader = decode.Reader(path)
    segments = [[sound.get(_digest(frame), -1) for frame in segment.frames]
                for segment in reader.segments()]
    for segment in segments:  # Frame by frame as they were before.
      self.assertEqual(segment, list(range(segment[0], segment[-1] + 1)))
    kept = [frame for segment in segments for frame in segment]
    self.assertGreaterEqual(len(kept), part * _NUM_FRAMES - _GOP)
    self.assertLess(len(kept), _NUM_FRAMES)
    first = reader.info.damage[0]
    self.assertLessEqual(abs(first.frame - part * _NUM_FRAMES), _GOP)
    self.assertAlmostEqual(first.time, first.frame / 25, delta=0.05)
    self.assertTrue(first.reason)
    with self.assertRaisesRegex(
        errors.UserError, rf'{name} .*damaged: .*, at \d+\.\d\d s \(frame \d'):
      decode.read_clip(path)
    # Frames before the damage can be had, without reading on.
    self.assertLen(decode.read_clip(path, first=5, rest=False), 5)

  @parameterized.product(
      name=('a.mp4', 'a.mkv', 'a.avi', 'a.ts', 'a.mov'), sound=(False, True),
      part=(0.5, 0.9))
  def test_files_that_end_too_early(self, name, sound, part):
    path = self.root / name
    if name in ('a.mp4', 'a.mov'):  # The index must be in front.
      plain = self.root / f'plain{path.suffix}'
      self._write(plain, sound=sound)
      _move_index(plain, path)
    else:
      self._write(path, 'mpeg4' if name == 'a.avi' else 'libx264', sound)
    self.assertEqual(timed_files.numbers(decode.read_clip(path)),
                     list(range(_NUM_FRAMES)))
    self.assertEqual(decode.probe(path).damage, ())
    self._damage(path, _cut, part)
    reader = decode.Reader(path)
    kept = [number for segment in reader.segments()
            for number in timed_files.numbers(segment.frames)]
    self.assertEqual(kept, list(range(len(kept))))
    self.assertLessEqual(abs(len(kept) - part * _NUM_FRAMES), 4)
    place, = reader.info.damage
    if name == 'a.ts':  # No header says how long it was.
      self.assertEqual(place.reason, 'the file ends within a packet')
    else:
      after, told = re.fullmatch(
          r'the file ends after (.*) of (.*) seconds', place.reason).groups()
      self.assertLess(float(after), float(told))
    self.assertEqual(place.frame, len(kept))
    for options in ({}, dict(first=4), dict(last=4)):
      with self.assertRaisesRegex(errors.UserError, 'the file ends'):
        decode.read_clip(path, **options)
    place, = decode.probe(path).damage  # Without decoding.
    self.assertRegex(place.reason, 'the file ends')

  def test_a_file_that_lacks_its_index_alone_is_whole(self):
    path = self.root / 'a.mkv'
    self._write(path)
    data = path.read_bytes()
    path.write_bytes(data[:data.rindex(b'\x1c\x53\xbb\x6b')])  # The cues.
    self.assertEqual(timed_files.numbers(decode.read_clip(path)),
                     list(range(_NUM_FRAMES)))

  def test_sound_may_be_longer(self):
    path = self.root / 'a.mkv'
    with av.open(str(path), 'w') as file:
      stream = file.add_stream('libx264', rate=25)
      stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
      tone = file.add_stream('pcm_s16le', rate=8000, layout='mono')
      for k in range(10):
        frame = av.VideoFrame.from_ndarray(
            np.full((48, 64, 3), 20 * k, np.uint8), 'rgb24')
        file.mux(stream.encode(frame))
      file.mux(stream.encode())
      for k in range(10):
        samples = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.int16), 's16', 'mono')
        samples.sample_rate, samples.pts = 8000, 8000 * k
        file.mux(tone.encode(samples))
    self.assertLen(decode.read_clip(path), 10)
    self.assertEqual(decode.probe(path).damage, ())

  def test_parts_know_of_no_damage_elsewhere(self):
    path = self.root / 'a.ts'
    self._write(path)
    self._damage(path, _zero, 0.5)
    for start, end, is_damaged in ((0.0, 0.8, False), (1.9, None, False),
                                   (0.5, 1.6, True)):
      reader = decode.Reader(path, start=start, end=end)
      for segment in reader.segments():
        list(segment.frames)
      self.assertEqual(bool(reader.info.damage), is_damaged)

  def test_packets_of_mpegts_that_nothing_marks_as_lost(self):
    whole, path = self.root / 'whole.ts', self.root / 'a.ts'
    self._write(whole)
    for number in (25, 30):
      with av.open(str(whole)) as old, av.open(str(path), 'w') as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        for packet in packets[:number] + packets[number + 1:]:
          packet.stream = stream
          new.mux(packet)
      reader = decode.Reader(path)
      segments = [timed_files.numbers(segment.frames)
                  for segment in reader.segments()]
      place, = reader.info.damage
      self.assertEqual(place.reason, 'packets are missing')
      self.assertLen(segments, 2)
      for segment in segments:
        self.assertEqual(segment, list(range(segment[0], segment[-1] + 1)))
      self.assertEqual(segments[1][0], 36)  # The next key frame.

  def test_packets_that_a_receiver_marked(self):
    path = self.root / 'a.ts'
    self._write(path)
    with av.open(str(path)) as container:
      places = [packet.pos for packet in container.demux(video=0)
                if packet.size]
    data = bytearray(path.read_bytes())
    data[places[27] + 1] |= 0x80  # The transport error indicator.
    path.write_bytes(data)
    reader = decode.Reader(path)
    segments = [timed_files.numbers(segment.frames)
                for segment in reader.segments()]
    place, = reader.info.damage
    self.assertEqual(place.reason, 'a packet is damaged')
    self.assertLess(abs(len(segments[0]) - 27), 4)
    self.assertEqual(segments[1], list(range(36, _NUM_FRAMES)))

  def test_frames_that_ffmpeg_marks(self):
    path = self.root / 'a.mkv'
    self._write(path)
    source = containers.open_video(path)
    self.addCleanup(source.container.close)
    with path.open('rb') as file:
      decoder = stream_decoder.Decoder(source, truncation.Ending(source, file))
    decoder._stream = _Marking(source.stream, 20)
    events = list(decoder.events())
    at, = (k for k, event in enumerate(events)
           if isinstance(event, stream_decoder.Damage))
    numbers = [round(event.time * 25) for event in events
               if not isinstance(event, stream_decoder.Damage)]
    self.assertLessEqual(numbers[at - 1], 19)
    self.assertEqual(numbers[:at], list(range(at)))
    self.assertEqual(numbers[at:], list(range(24, _NUM_FRAMES)))

  def test_nothing_at_all(self):
    path = self.root / 'a.mkv'
    self._write(path)
    data = bytearray(path.read_bytes())
    start = data.index(b'\x1f\x43\xb6\x75')  # The first cluster.
    data[start + 20:] = np.random.default_rng(0).bytes(len(data) - start - 20)
    path.write_bytes(data)
    with self.assertRaisesRegex(decode.ClipError,
                                r'no frame could be decoded \(.+\)'):
      decode.Reader(path)


class _Marking:
  """A stream, one of whose frames is marked as damaged."""

  def __init__(self, stream, number):
    self._stream, self._number = stream, number

  def __getattr__(self, name):
    return getattr(self._stream, name)

  def decode(self, packet):
    return [_Marked(frame, self._number)
            for frame in self._stream.decode(packet)]


class _Marked:

  def __init__(self, frame, number):
    self._frame, self._number = frame, number

  def __getattr__(self, name):
    return getattr(self._frame, name)

  @property
  def is_corrupt(self):
    return self._frame.pts is not None and (
        round(self._frame.time * 25) == self._number)


def _digest(frame):
  return hashlib.sha256(frame.tobytes()).hexdigest()


def _move_index(source, target):
  """Copies an mp4 with its index in front."""
  with av.open(str(source)) as old, av.open(
      str(target), 'w', options=dict(movflags='faststart')) as new:
    streams = {stream.index: new.add_stream_from_template(stream)
               for stream in old.streams}
    for packet in old.demux():
      if packet.size:
        packet.stream = streams[packet.stream.index]
        new.mux(packet)


if __name__ == '__main__':
  absltest.main()
