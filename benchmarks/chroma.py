"""Chroma of real clips that comes back from 4:2:0, by two conversions.

  python -m benchmarks.chroma --video FILE,..

Frames of a clip, halved in size, are stored as lossless yuv420p. `full` is the
chroma that the one reader gives back, `fast` that of swscale's fast path, which
paints squares of 2 x 2 pixels: PSNR in dB, of the two differences of colour of
BT.601 together, at a peak of 255.
"""
import argparse
import fractions
import json
import pathlib
import tempfile

import av
import av.filter
import numpy as np

from benchmarks import harness
from walt_jax.media import decode

_FRAMES = 24
_TIME = fractions.Fraction(1, 25)  # Seconds of a frame.
_TO_YUV420P = 'flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp'
# Cb and Cr of RGB (BT.601).
_CHROMA = np.array([[-.168736, -.331264, .5], [.5, -.418688, -.081312]])


def _halved(height: int, width: int) -> tuple[int, int]:
  return height // 4 * 2, width // 4 * 2


def _store(path: pathlib.Path, clip: np.ndarray) -> None:
  height, width = clip.shape[1:3]
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('ffv1', rate=25)
    stream.height, stream.width, stream.pix_fmt = height, width, 'yuv420p'
    # FFV1 of FFmpeg 8.1 writes damaged slices where several threads write them.
    stream.codec_context.thread_count = 1
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=width, height=height, time_base=_TIME,
                         format=av.VideoFormat('rgb24', width, height)),
        graph.add('scale', _TO_YUV420P), graph.add('format', 'yuv420p'),
        graph.add('buffersink')).configure()
    for number, image in enumerate(clip):
      frame = av.VideoFrame.from_ndarray(image, 'rgb24')
      frame.pts, frame.time_base = number, _TIME
      graph.push(frame)
      container.mux(stream.encode(graph.pull()))
    container.mux(stream.encode())


def _fast(path: pathlib.Path) -> np.ndarray:
  with av.open(str(path)) as container:
    return np.stack([
        frame.reformat(format='rgb24', interpolation='BICUBIC').to_ndarray()
        for frame in container.decode(video=0)])


def _psnr(made: np.ndarray, clip: np.ndarray) -> float:
  error = (made.astype(float) - clip) @ _CHROMA.T
  return float(10 * np.log10(255**2 / np.square(error).mean()))


def _one(file: str) -> harness.Row:
  clip = decode.read_clip(file, size=_halved, first=_FRAMES, rest=False)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'a.mkv'
    _store(path, clip)
    full, fast = _psnr(decode.read_clip(path), clip), _psnr(_fast(path), clip)
  return dict(size=[*clip.shape[1:3]], frames=len(clip), full=round(full, 2),
              fast=round(fast, 2), gain=round(full - fast, 2))


def main():
  """Prints and writes a row for each file."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--video')
  parser.add_argument('--output')
  parser.add_argument('--one', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(_one(args.one)))
    return
  rows = {}
  for file in args.video.split(','):
    name = pathlib.Path(file).stem
    rows[name] = harness.in_process('benchmarks.chroma', ['--one', file])
    print(name, json.dumps(rows[name]))
  harness.write('chroma', rows, path=args.output)


if __name__ == '__main__':
  main()
