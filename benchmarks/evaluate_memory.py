"""Memory of scoring the first frames of long videos.

  python -m benchmarks.evaluate_memory [--frames 16] [--seconds 60]
    [--repeats 3]

Each case is `walt evaluate fvd --frames N` of two clips a side, in a process
of its own. `network` scores arrays that hold the same N frames and no more:
what the feature network itself takes. `videos` scores the videos; the rest of
what it holds is the reader's. Tells the peak resident memory of each, which
varies with how XLA compiles, and the seconds that it takes to look at a clip
and to read its N frames. `above_network_mib` is the most that a run of
`videos` takes above the least of `network`.
"""
import argparse
from collections.abc import Iterator
import os
import pathlib
import tempfile
import time

import av
import numpy as np

from benchmarks import harness
from walt_jax.core import host_memory

_SIZE = (360, 640)  # Rows and columns.
_RATE = 25
_SIDES = ('real', 'generated')


def _frames(count: int, seed: int) -> Iterator[np.ndarray]:
  """A pattern that moves, of colours of its own."""
  rows, columns = np.mgrid[:_SIZE[0], :_SIZE[1]]
  colours = np.random.default_rng(seed).uniform(0.2, 1, 3)
  for k in range(count):
    wave = np.sin((rows + 3 * k) / 17) * np.cos((columns - 5 * k) / 23)
    yield ((127 * wave + 128)[..., None] * colours).astype(np.uint8)


def _write(path: pathlib.Path, count: int, seed: int) -> None:
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=_RATE)
    stream.height, stream.width = _SIZE
    stream.pix_fmt = 'yuv420p'
    stream.options = dict(preset='ultrafast', g='50')
    for image in _frames(count, seed):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
    container.mux(stream.encode(None))


def _make(folder: pathlib.Path, seconds: int) -> None:
  """Writes the videos of both sides."""
  for number, side in enumerate(_SIDES):
    path = folder / 'videos' / side
    path.mkdir(parents=True)
    for i in range(2):
      _write(path / f'{i}.mp4', seconds * _RATE, 2 * number + i)


def _make_arrays(folder: pathlib.Path, frames: int) -> None:
  """Writes what is scored of the videos as arrays."""
  from walt_jax.evaluation import clip_sets
  (folder / 'network').mkdir()
  for side in _SIDES:
    clips = clip_sets.open_clips(folder / 'videos' / side, frames=frames)
    np.save(folder / 'network' / f'{side}.npy', clips.stack())


def _score(folder: pathlib.Path, case: str, frames: int) -> harness.Row:
  from walt_jax.commands import cli
  from walt_jax.core import files
  from walt_jax.evaluation import clip_sets
  suffix = '' if case == 'videos' else '.npy'
  sides = [str(folder / case / f'{side}{suffix}') for side in _SIDES]
  start = time.perf_counter()
  clips = clip_sets.open_clips(sides[0], frames=frames)
  info = clips.info()
  opened = time.perf_counter()
  clip = clips[0]
  read = time.perf_counter()
  out = folder / f'{case}.json'
  code = cli.main(['evaluate', 'fvd', '--real', sides[0], '--generated',
                   sides[1], '--frames', str(frames), '--json', str(out)])
  if code:
    raise SystemExit(code)
  return dict(
      frames=frames, size=list(clip.shape[1:3]),
      seconds_a_clip=info.duration and info.duration.mean,
      fvd=files.read_json(out)['value'],
      open_seconds=(opened - start) / len(clips), read_seconds=read - opened,
      peak_mib=host_memory.peak_bytes() / 2**20)


def _child(flags: list[str], case: str) -> harness.Row:
  return harness.in_process(
      'benchmarks.evaluate_memory', [*flags, case],
      dict(JAX_PLATFORMS=os.environ.get('JAX_PLATFORMS', 'cpu')))


def _summary(runs: list[harness.Row]) -> harness.Row:
  """The fastest run's figures, with the peaks of all."""
  best = min(runs, key=lambda row: row['read_seconds'])
  peaks = [row['peak_mib'] for row in runs]
  return {name: value for name, value in best.items()
          if name != 'peak_mib'} | dict(peaks_mib=peaks)


def main():
  """Prints and writes benchmarks/results/evaluate_memory.json."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--frames', type=int, default=16)
  parser.add_argument('--seconds', type=int, default=60)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--one', help='a case, in this process')
  parser.add_argument('--folder', help='of the videos, for --one')
  args = parser.parse_args()
  if args.one == 'make':
    _make_arrays(pathlib.Path(args.folder), args.frames)
    harness.print_row({})
    return
  if args.one:
    harness.print_row(_score(pathlib.Path(args.folder), args.one, args.frames))
    return
  with tempfile.TemporaryDirectory() as folder:
    _make(pathlib.Path(folder), args.seconds)
    flags = ['--frames', str(args.frames), '--folder', folder, '--one']
    made = _child(flags, 'make')
    runs = {case: [_child(flags, case) for _ in range(args.repeats)]
            for case in ('network', 'videos')}
  failed = [row['error'] for row in (made, *runs['network'], *runs['videos'])
            if 'error' in row]
  if failed:
    raise SystemExit(failed[0])
  rows = {case: _summary(found) for case, found in runs.items()}
  rows['videos']['above_network_mib'] = (
      max(rows['videos']['peaks_mib']) - min(rows['network']['peaks_mib']))
  for case, row in rows.items():
    print(case, row)
  print(harness.write('evaluate_memory', rows))


if __name__ == '__main__':
  main()
