"""Speed and memory of the data pipeline: the figures in docs/data.md.

  python -m benchmarks.data [--input VIDEOS] [--json FILE]

Three measurements, all in one run and on one thread:

  speed    clips a second of the iterator (ArrayRecord, decoding, crop, flip,
           batching) against a bare PyAV loop that decodes the same frames of
           the same stored bytes to RGB and does nothing else; the two take
           turns, the median of the ratios counts
  memory   resident memory before and after 10,000 batches
  resume   seconds to the first batch of an iterator that starts at batch
           100,000
"""
import argparse
import gc
import io
import json
import pathlib
import tempfile
import time

import av
import numpy as np

from walt_jax.data import clips
from walt_jax.data import moving_digits
from walt_jax.data import parts
from walt_jax.data import pipeline
from walt_jax.data import prepare
from walt_jax.data import render
from walt_jax.data import sources

_FRAMES = 17


def bare_loop(stored: list[dict], rows: list[int], seed: int) -> None:
  """Decodes 17 neighbouring frames of clips in memory to RGB; nothing else."""
  rng = np.random.default_rng(seed)
  for row in rows:
    example = stored[row]
    indices = clips.frame_indices(example['num_frames'], example['fps'],
                                  _FRAMES, None, rng)
    frames = []
    with av.open(io.BytesIO(example['video_file'])) as container:
      stream = container.streams.video[0]
      stream.thread_type = 'NONE'
      # As we do: from the key frame before, else it would decode more.
      container.seek(int(indices[0] / stream.average_rate * av.time_base))
      for frame in container.decode(stream):
        number = round(frame.time * stream.average_rate)
        if number >= indices[0]:
          frames.append(frame.to_ndarray(format='rgb24'))
        if number == indices[-1]:
          break
    assert len(frames) == _FRAMES


class Counted:
  """A dataset that counts what is read of it."""

  def __init__(self, dataset: sources.PreparedDataset):
    self._dataset = dataset
    self.classes, self.index = dataset.classes, dataset.index
    self.count = 0

  def __len__(self) -> int:
    return len(self._dataset)

  def __getitem__(self, row: int) -> dict:
    self.count += 1
    return self._dataset[row]


def measure_speed(dataset: sources.PreparedDataset, size: int, rounds: int,
                  batch_size: int = 8) -> dict:
  """Clips a second of both, taking turns: by the clock and by CPU time."""
  options = pipeline.BatchOptions(
      video_rows=batch_size, num_frames=_FRAMES, size=size, flip=True,
      random_crop=True, num_threads=1, prefetch=1)
  batches = max(1, len(dataset) // batch_size)
  clips_per_round = batches * batch_size
  counted = Counted(dataset)
  start = pipeline.make_batches(counted, options)
  order = np.random.default_rng(0)
  stored = [dataset[row] for row in range(len(dataset))]
  measured = []
  for number in range(rounds + 1):
    counted.count, cpu = 0, time.process_time()
    began = time.perf_counter()
    iterator = start(number * batches)
    for _ in range(batches):
      next(iterator)
    wall = time.perf_counter() - began
    del iterator
    time.sleep(1.0)  # What it had begun ahead of us ends, and counts, too.
    ours = clips_per_round / wall, counted.count / (time.process_time() - cpu)
    rows = order.integers(len(dataset), size=clips_per_round).tolist()
    cpu, began = time.process_time(), time.perf_counter()
    bare_loop(stored, rows, number)
    bare = [clips_per_round / seconds for seconds in (
        time.perf_counter() - began, time.process_time() - cpu)]
    if number:  # The first round warms up.
      measured.append((ours, bare))
  table = np.array(measured)  # [rounds, (ours, bare), (wall, CPU)].
  ratios = table[:, 0] / table[:, 1]
  found: dict = dict(clips_per_round=clips_per_round, rounds=rounds)
  for column, name in enumerate(('wall', 'cpu')):
    ours, bare = np.median(table[:, :, column], axis=0)
    found[name] = dict(
        iterator_clips_per_second=round(float(ours), 1),
        bare_clips_per_second=round(float(bare), 1),
        ratio=round(float(np.median(ratios[:, column])), 3),
        ratios=[round(float(ratio), 3) for ratio in ratios[:, column]])
  return found


def _resident_mib() -> float:
  gc.collect()
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith('VmRSS'):
      return int(line.split()[1]) / 1024
  raise OSError('No VmRSS in /proc/self/status.')


def measure_memory(dataset, size: int, batches: int) -> dict:
  """Resident memory along an iterator's way, after its first 100 batches."""
  options = pipeline.BatchOptions(
      video_rows=2, image_rows=1, num_frames=_FRAMES, size=size, flip=True,
      random_crop=True)
  iterator = pipeline.make_batches(dataset, options)(0)
  readings = []
  for number in range(batches + 100):
    if number >= 100 and (number - 100) % (batches // 10) == 0:
      readings.append(_resident_mib())
    next(iterator)
  readings.append(_resident_mib())
  return dict(batches=batches, readings_mib=[round(r, 1) for r in readings],
              growth_mib=round(max(readings) - readings[0], 1))


def measure_resume(dataset, size: int, batch: int) -> dict:
  """Seconds to the first batch, far into a run and at its start."""
  options = pipeline.BatchOptions(video_rows=8, num_frames=_FRAMES, size=size)
  seconds = {}
  for name, number in (('from_0', 0), (f'from_{batch}', batch)):
    began = time.perf_counter()
    next(pipeline.make_batches(dataset, options)(number))
    seconds[f'seconds_{name}'] = round(time.perf_counter() - began, 3)
  return seconds


def main() -> None:
  """Measures, and prints JSON."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--input', metavar='DIR', help='folder of videos; '
                      'default: moving digits')
  parser.add_argument('--size', type=int, default=128)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--batches', type=int, default=10_000)
  parser.add_argument('--json', metavar='FILE')
  args = parser.parse_args()
  found = {}
  with tempfile.TemporaryDirectory() as root:
    folder = pathlib.Path(root)
    for name, size, codec in (('video', args.size, 'h264'),
                              ('small_video', 32, 'h264'),
                              ('small_frames', 32, 'jpeg')):
      if args.input:
        prepare.prepare(args.input, folder / name, parts.Settings(
            size=size, codec=codec, clip_frames=64, heldout=0.0))
      else:
        digits = moving_digits.MovingDigits(
            num_examples=128, size=size, num_frames=64, difficulty='free')
        render.write_sources(dict(train=digits), folder / name, {},
                             codec=codec)
    video = sources.PreparedDataset(folder / 'video')
    for name, measure in (
        ('speed', lambda: measure_speed(video, args.size, args.rounds)),
        ('resume', lambda: measure_resume(video, args.size, 100_000)),
        ('memory_jpeg', lambda: measure_memory(
            sources.PreparedDataset(folder / 'small_frames'), 32,
            args.batches)),
        ('memory_h264', lambda: measure_memory(
            sources.PreparedDataset(folder / 'small_video'), 32,
            args.batches))):
      found[name] = measure()
      print(name, found[name], flush=True)
  text = json.dumps(found, indent=1)
  print(text)
  if args.json:
    pathlib.Path(args.json).write_text(text + '\n')


if __name__ == '__main__':
  main()
