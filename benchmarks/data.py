"""Speed and memory of the data pipeline: docs/measurements/data.md.

  python -m benchmarks.data [--input VIDEOS] [--json FILE]

Three measurements, all in one run and on one thread:

  speed    CPU time of the iterator (ArrayRecord, decoding, crop, flip,
           batching) for a batch, and right after it that of a bare PyAV loop
           that decodes the very same frames of the same stored bytes to RGB
           and does nothing else. The two take turns batch by batch, so that
           other work on the machine slows both; the median of the ratios
           counts
  memory   resident memory along 10,000 batches
  resume   seconds to the first batch of an iterator that starts at batch
           100,000
"""
import argparse
import contextlib
import gc
import io
import json
import pathlib
import tempfile
import time
from unittest import mock

import av
import numpy as np

from walt_jax.data import render
from walt_jax.data.prepare import prepare
from walt_jax.data.prepare import work_items
from walt_jax.data.sources import moving_digits
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.stream import batches as batches_lib

_FRAMES = 17


def bare_loop(data: bytes, indices: np.ndarray) -> list[np.ndarray]:
  """Decodes frames `indices` (neighbours) of a stored clip to RGB."""
  frames = []
  with av.open(io.BytesIO(data)) as container:
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
  return frames


@contextlib.contextmanager
def recorded_reads():
  """Yields the list of (stored bytes, frame numbers) that the body decodes."""
  reads: list[tuple[bytes, np.ndarray]] = []
  decode = codecs.decode_video

  def recording(data, indices, size=None):
    reads.append((data, indices))
    return decode(data, indices, size)

  with mock.patch.object(codecs, 'decode_video', recording):
    yield reads


def measure_speed(dataset: dataset_lib.PreparedDataset, size: int, rounds: int,
                  batch_size: int = 8) -> dict:
  """Clips a second of both, taking turns: by CPU time and by the clock."""
  options = batches_lib.BatchOptions(
      video_rows=batch_size, num_frames=_FRAMES, size=size, flip=True,
      random_crop=True, num_threads=0, prefetch=0)  # All in this thread.
  iterator = batches_lib.make_batches(dataset, options)(0)
  measured = []
  with recorded_reads() as reads:
    for number in range(rounds + 2):
      reads.clear()
      times = [(time.thread_time(), time.perf_counter())]
      next(iterator)
      times.append((time.thread_time(), time.perf_counter()))
      for data, indices in reads:
        assert len(bare_loop(data, indices)) == _FRAMES
      times.append((time.thread_time(), time.perf_counter()))
      assert len(reads) == batch_size
      if number >= 2:  # The first rounds warm up.
        measured.append(np.diff(times, axis=0))
  table = np.array(measured)  # [rounds, (ours, bare), (CPU, wall)].
  found: dict = dict(rounds=rounds, clips_per_round=batch_size)
  for column, name in enumerate(('cpu', 'wall')):
    ours, bare = batch_size / np.median(table[:, :, column], axis=0)
    ratios = table[:, 1, column] / table[:, 0, column]
    found[name] = dict(
        iterator_clips_per_second=round(float(ours), 1),
        bare_clips_per_second=round(float(bare), 1),
        ratio=round(float(np.median(ratios)), 3),
        quartiles=np.quantile(ratios, (0.25, 0.75)).round(3).tolist())
  return found


def _resident_mib() -> float:
  gc.collect()
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith('VmRSS'):
      return int(line.split()[1]) / 1024
  raise OSError('No VmRSS in /proc/self/status.')


def measure_memory(dataset, size: int, batches: int) -> dict:
  """Resident memory along an iterator's way, after its first 100 batches."""
  options = batches_lib.BatchOptions(
      video_rows=2, image_rows=1, num_frames=_FRAMES, size=size, flip=True,
      random_crop=True)
  iterator = batches_lib.make_batches(dataset, options)(0)
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
  options = batches_lib.BatchOptions(
      video_rows=8, num_frames=_FRAMES, size=size)
  seconds = {}
  for name, number in (('from_0', 0), (f'from_{batch}', batch)):
    began = time.perf_counter()
    next(batches_lib.make_batches(dataset, options)(number))
    seconds[f'seconds_{name}'] = round(time.perf_counter() - began, 3)
  return seconds


def main() -> None:
  """Measures, and prints JSON."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--input', metavar='DIR', help='folder of videos; '
                      'default: moving digits')
  parser.add_argument('--size', type=int, default=128)
  parser.add_argument('--rounds', type=int, default=60)
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
        prepare.prepare(args.input, folder / name, work_items.Settings(
            size=size, codec=codec, clip_frames=64, heldout=0.0))
      else:
        digits = moving_digits.MovingDigits(
            num_examples=128, size=size, num_frames=64, difficulty='free')
        render.write_sources(dict(train=digits), folder / name, {},
                             codec=codec)
    video = dataset_lib.PreparedDataset(folder / 'video')
    for name, measure in (
        ('speed', lambda: measure_speed(video, args.size, args.rounds)),
        ('resume', lambda: measure_resume(video, args.size, 100_000)),
        ('memory_jpeg', lambda: measure_memory(
            dataset_lib.PreparedDataset(folder / 'small_frames'), 32,
            args.batches)),
        ('memory_h264', lambda: measure_memory(
            dataset_lib.PreparedDataset(folder / 'small_video'), 32,
            args.batches))):
      found[name] = measure()
      print(name, found[name], flush=True)
  text = json.dumps(found, indent=1)
  print(text)
  if args.json:
    pathlib.Path(args.json).write_text(text + '\n')


if __name__ == '__main__':
  main()
