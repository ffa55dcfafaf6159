"""Small video files for tests, good and bad ones."""
from fractions import Fraction
import pathlib

import av
import numpy as np


def write_video(path, num_frames=12, size=(32, 24), rate=10, value=None,
                rotation=0, times=None, codec='mpeg4'):
  """A clip whose frame k has brightness 10 k mod 250 (or `value`).

  Args:
    path: The suffix decides the container.
    num_frames: May be 0: a file with a header alone.
    size: Width and height.
    rate: Frames/s.
    value: Brightness of all frames.
    rotation: Degrees that a player must turn it by.
    times: Seconds of each frame, for a variable rate.
    codec: Of FFmpeg.
  """
  def frame(k):
    level = 10 * k % 250 if value is None else value
    image = np.full((size[1], size[0], 3), level, np.uint8)
    if rotation:  # A bright top left corner tells which way is up.
      image[:size[1] // 2, :size[0] // 2] = 250
    return image

  write_frames(path, map(frame, range(num_frames)), size, rate=rate,
               rotation=rotation, times=times, codec=codec)


def write_frames(path, frames, size, *, rate=10, rotation=0, times=None,
                 codec='mpeg4', pix_fmt='yuv420p', options=None):
  """A clip of given frames, uint8 [H, W, 3] each.

  Args:
    path: The suffix decides the container.
    frames: May be empty: a file with a header alone.
    size: Width and height.
    rate: Frames/s.
    rotation: Degrees, clockwise, that a player must turn it by (.mp4).
    times: Seconds of each frame, for a variable rate.
    codec: Of FFmpeg.
    pix_fmt: Of FFmpeg.
    options: Of the codec.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('wb') as file, av.open(
      file, 'w', format=_FORMATS[path.suffix]) as container:
    stream = container.add_stream(codec, rate=rate, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    # FFV1 of FFmpeg 8.1 writes damaged slices where several threads write them.
    stream.codec_context.thread_count = 1
    if times is not None:
      stream.codec_context.time_base = Fraction(1, 1000)
    empty = True
    for k, image in enumerate(frames):
      empty = False
      frame = av.VideoFrame.from_ndarray(image, format='rgb24')
      if times is not None:
        frame.pts, frame.time_base = round(times[k] * 1000), Fraction(1, 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
    if empty:
      container.start_encoding()
  if rotation:
    _rotate(path, rotation)


_FORMATS = {'.avi': 'avi', '.mkv': 'matroska', '.mp4': 'mp4', '.mov': 'mov'}
_IDENTITY = b''.join(number.to_bytes(4, 'big') for number in (
    0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))


def _rotate(path, degrees):
  """Turns the display matrix in the header of an mp4 file."""
  cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
  numbers = (cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0,
             0x40000000)
  matrix = b''.join((number & 0xFFFFFFFF).to_bytes(4, 'big')
                    for number in numbers)
  data = path.read_bytes()
  # The movie's header has such a matrix, too; the track's comes later.
  at = data.index(_IDENTITY, data.index(b'tkhd'))
  path.write_bytes(data[:at] + matrix + data[at + len(matrix):])


def cut_video(path, part):
  """Keeps so much of an mp4's pictures, its index moved in front of them."""
  front = path.with_name('front.mp4')
  with av.open(str(path)) as whole, av.open(
      str(front), 'w', options=dict(movflags='faststart')) as container:
    stream = container.add_stream_from_template(whole.streams.video[0])
    for packet in whole.demux(video=0):
      if packet.dts is not None:
        packet.stream = stream
        container.mux(packet)
  data = front.read_bytes()
  front.unlink()
  start = data.index(b'mdat')
  path.write_bytes(data[:start + int(part * (len(data) - start))])


def write_sound(path):
  """A file with sound alone."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
    frame = av.AudioFrame.from_ndarray(
        np.zeros((1, 800), np.int16), format='s16', layout='mono')
    frame.sample_rate = 8000
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def content(folder):
  """Files of a folder but for the manifest, whose benchmark differs."""
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())
          if path.is_file() and path.name != 'manifest.json'}
