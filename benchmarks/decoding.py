"""Speed of the one reader of videos, beside a bare PyAV loop.

  python -m benchmarks.decoding [--video FILE,..] [--repeats 5]

Both make the same RGB frames, with full chroma, of the same size: the loop
decodes, scales and copies, and looks at nothing else. They take turns. `ratio`
is of processor time, which other work on the machine leaves alone, and the
median over the turns; `wall_ratio` is of the clock's. `--video` adds files of
your own to those that are made here. `chroma_psnr` is how far swscale's fast
path, in use before, is from the frames that are made now.
"""
import argparse
from collections.abc import Iterator
import json
import pathlib
import statistics
import tempfile
import time

import av
from av.video import reformatter
import numpy as np

from benchmarks import harness
from walt_jax.media import decode

_MADE = {  # Codec, height, width, frames and options.
    'h264_360p': ('libx264', 360, 640, 250, {}),
    'h264_1080p': ('libx264', 1080, 1920, 60, {}),
    'hevc_360p': ('libx265', 360, 640, 250,
                  {'x265-params': 'log-level=none'}),
    'mpeg4_240p': ('mpeg4', 240, 320, 250, {}),
}
_SIDE = 128  # Of the shorter side, as `walt data prepare` makes it by default.
_FULL = int(
    reformatter.Interpolation.BICUBIC
    | reformatter.Interpolation.FULL_CHR_H_INT
    | reformatter.Interpolation.FULL_CHR_H_INP
    | reformatter.Interpolation.ACCURATE_RND)


def _write(path: pathlib.Path, codec: str, height: int, width: int,
           num_frames: int, options: dict[str, str]) -> None:
  """A moving picture with detail, as natural ones have."""
  rng = np.random.default_rng(0)
  y, x = np.mgrid[:height, :width] / 40
  grain = rng.normal(0, 4, (height, width + num_frames, 1))
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=25, options=options)
    stream.height, stream.width, stream.pix_fmt = height, width, 'yuv420p'
    stream.codec_context.thread_count = 1
    if codec == 'mpeg4':
      stream.codec_context.qmin = stream.codec_context.qmax = 4
    for k in range(num_frames):
      waves = np.stack([np.sin(x + k / 9), np.sin(y - x + k / 7),
                        np.cos(x * y / 9 + k / 5)], -1)
      image = 128 + 90 * waves + grain[:, k:k + width]
      frame = av.VideoFrame.from_ndarray(
          np.uint8(np.clip(image, 0, 255)), 'rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _bare(path: str, height: int, width: int,
          interpolation: int | str = _FULL) -> Iterator[np.ndarray]:
  with av.open(path) as container:
    for frame in container.decode(video=0):
      yield frame.reformat(
          width=width, height=height, format='rgb24',
          interpolation=interpolation).to_ndarray()


def _own(path: str, size: tuple[int, int]) -> Iterator[np.ndarray]:
  yield from decode.read_frames(path, size=lambda *_: size)[1]


def _seconds(frames: Iterator[np.ndarray]) -> tuple[float, float, int]:
  """Seconds of processor time and of the clock, and the number of frames."""
  start, cpu_start = time.perf_counter(), time.process_time()
  count = sum(1 for _ in frames)
  return time.process_time() - cpu_start, time.perf_counter() - start, count


def _size(height: int, width: int, side: int | None) -> tuple[int, int]:
  if side is None:
    return height, width
  scale = side / min(height, width)
  return round(height * scale), round(width * scale)


def _chroma_psnr(path: str, size: tuple[int, int]) -> float:
  """The distance of frames with and without full chroma, in dB."""
  errors = []
  for now, before in zip(_bare(path, *size), _bare(path, *size, 'BICUBIC'),
                         strict=True):
    errors.append(np.square(now.astype(float) - before).mean())
  return float(10 * np.log10(255**2 / max(np.mean(errors), 1e-9)))


def _measure(path: str, side: int | None, repeats: int) -> harness.Row:
  info = decode.probe(path)
  size = _size(info.height, info.width, side)
  ratios, wall_ratios, costs = [], [], []
  for _ in range(repeats):
    bare, bare_wall, count = _seconds(_bare(path, *size))
    own, own_wall, own_count = _seconds(_own(path, size))
    if count != own_count:
      raise AssertionError(f'{own_count} frames, the bare loop has {count}')
    ratios.append(bare / own)
    wall_ratios.append(bare_wall / own_wall)
    costs.append(1000 * own / count)
  return dict(
      size=[*size], frames=count, ratio=statistics.median(ratios),
      wall_ratio=statistics.median(wall_ratios),
      cpu_ms_a_frame=statistics.median(costs),
      chroma_psnr=_chroma_psnr(path, size))


def _one(case: str, repeats: int) -> harness.Row:
  name, _, what = case.rpartition('@')
  side = _SIDE if what == 'prepared' else None
  if name not in _MADE:
    return _measure(name, side, repeats)
  with tempfile.TemporaryDirectory() as folder:
    codec, height, width, num_frames, options = _MADE[name]
    path = pathlib.Path(folder) / (
        'a.avi' if codec == 'mpeg4' else 'a.mp4')
    _write(path, codec, height, width, num_frames, options)
    return _measure(str(path), side, repeats)


def main():
  """Prints and writes a row for each file and size."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--video', default='')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--output')
  parser.add_argument('--one', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(_one(args.one, args.repeats)))
    return
  rows = {}
  for file in (*_MADE, *filter(None, args.video.split(','))):
    for what in ('whole', 'prepared'):
      name = f'{pathlib.Path(file).stem}@{what}'
      rows[name] = harness.in_process(
          'benchmarks.decoding',
          ['--one', f'{file}@{what}', '--repeats', str(args.repeats)])
      print(name, json.dumps(rows[name]))
  harness.write('decoding', rows, path=args.output)


if __name__ == '__main__':
  main()
