"""Files whose frames tell their number, with times of every kind."""
import fractions
import itertools
import pathlib

import av
import numpy as np

RATE = 25
_DARKEST, _STEP = 30, 2


def write(path, num_frames=50, *, times=None, codec='libx264', gop=12,
          size=(64, 48), sound=False, container=None, options=None):
  """Writes flat frames, each a little brighter than the one before.

  Args:
    path: The suffix decides the container.
    num_frames: At most 100.
    times: Seconds of each frame; None is at an even rate.
    codec: Of FFmpeg.
    gop: Frames from a key frame to the next one.
    size: Width and height.
    sound: Whether a tone goes with it, as long as the frames.
    container: Format, where the suffix does not tell.
    options: Of the codec.
  """
  texture = np.random.default_rng(0).integers(-8, 9, size[::-1])
  with av.open(str(path), 'w', format=container) as file:
    defaults = {'g': str(gop)}
    if codec == 'libx264':
      defaults |= {'qp': '0', 'sc_threshold': '0', 'bf': '2'}
    stream = file.add_stream(codec, rate=RATE,
                             options=defaults | (options or {}))
    if codec in ('mpeg4', 'mpeg2video', 'mjpeg'):
      stream.codec_context.qmin = stream.codec_context.qmax = 2
    stream.width, stream.height = size
    stream.codec_context.thread_count = 1  # As in `video_files`.
    stream.pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
    if sound:
      tone = file.add_stream('aac', rate=16000, layout='mono')
    if times is not None:
      stream.codec_context.time_base = fractions.Fraction(1, 1000)
    for k in range(num_frames):
      grey = np.full(size[::-1], _DARKEST + _STEP * k) + texture
      frame = av.VideoFrame.from_ndarray(
          np.repeat(np.uint8(grey)[..., None], 3, 2), 'rgb24')
      if times is not None:
        frame.pts = round(times[k] * 1000)
        frame.time_base = fractions.Fraction(1, 1000)
      file.mux(stream.encode(frame))
      if sound:
        wave = np.sin(np.arange(640) / 9, dtype=np.float32)[None] / 2
        samples = av.AudioFrame.from_ndarray(wave, 'fltp', 'mono')
        samples.sample_rate, samples.pts = 16000, 640 * k
        file.mux(tone.encode(samples))
    file.mux(stream.encode())
    if sound:
      file.mux(tone.encode())


def numbers(frames) -> list[int]:
  """Which frames these are, uint8 [T, H, W, 3]."""
  return [round((frame.mean() - _DARKEST) / _STEP) for frame in frames]


def copy(source, target, first: int, num_packets: int | None = None):
  """Copies packets without decoding, from the first frame's time on 0.

  Args:
    source: File to copy.
    target: File to write.
    first: Frame that is to be shown first.
    num_packets: How many packets are copied, or None for all.
  """
  with av.open(str(source)) as old, av.open(str(target), 'w') as new:
    stream = new.add_stream_from_template(old.streams.video[0])
    packets = [packet for packet in old.demux(video=0) if packet.size]
    for packet in itertools.islice(packets, num_packets):
      shift = round(first / RATE / packet.time_base)
      packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
      packet.stream = stream
      new.mux(packet)


def join(target, *sources):
  """Writes files one after another, as `cat` does."""
  pathlib.Path(target).write_bytes(
      b''.join(pathlib.Path(source).read_bytes() for source in sources))
