"""Seconds a clip of I3D here and in PyTorch: one run, the same clips, in turns.

  python -m benchmarks.i3d_speed --torch_python VENV/bin/python

Each network lives in a process of its own, with all cores. Both first run once
to warm up; then they take turns, a pass over all clips each, so that whatever
else the machine does falls on both. Also compares the logits.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

_PEER = pathlib.Path(__file__).parent / 'i3d_torch_peer.py'


def _clips(count: int, frames: int) -> np.ndarray:
  """Moving digits at 224 x 224 in [-1, 1], as I3D sees a 32 x 32 model's."""
  from walt_jax.data.sources import moving_digits
  from walt_jax.metrics import video_features
  source = moving_digits.MovingDigits(
      split='heldout', num_examples=count, num_frames=17)
  clips = np.stack([source[i]['video'] for i in range(count)])[:, :frames]
  return np.asarray(video_features.preprocess(clips))


def _flatten(tree, prefix='') -> dict[str, np.ndarray]:
  flat = {}
  for name, value in tree.items():
    if isinstance(value, dict):
      flat |= _flatten(value, f'{prefix}{name}/')
    else:
      flat[prefix + name] = np.asarray(value)
  return flat


def _ours(clips: str, out: str, form: str):
  """Runs a pass for each line of standard input; prints its seconds."""
  import jax

  from walt_jax.pretrained import i3d
  params = jax.device_put(i3d.load()[0])
  x = jax.device_put(np.load(clips))
  run = jax.jit(lambda p, c: i3d.features(p, c, conv_form=form))
  for _ in sys.stdin:
    start = time.perf_counter()
    logits = [np.asarray(run(params, clip[None]))[0] for clip in x]
    seconds = (time.perf_counter() - start) / len(x)
    np.save(out, np.stack(logits))
    print(json.dumps(dict(seconds=seconds, version=jax.__version__)),
          flush=True)


class _Worker:
  """A process that runs a pass when told to."""

  def __init__(self, *command: str):
    self._process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    self.seconds: list[float] = []
    self.version = ''

  def take_turn(self, *, counts: bool) -> None:
    """One pass; a warm-up does not count."""
    self._process.stdin.write('go\n')
    self._process.stdin.flush()
    answer = json.loads(self._process.stdout.readline())
    self.version = answer['version']
    if counts:
      self.seconds.append(answer['seconds'])

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()

  def summary(self) -> dict:
    return dict(median=statistics.median(self.seconds),
                best=min(self.seconds), version=self.version)


def main():
  """Prints one JSON object."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--torch_python')
  parser.add_argument('--frames', type=int, default=16)
  parser.add_argument('--clips', type=int, default=4)
  parser.add_argument('--turns', type=int, default=5)
  parser.add_argument('--forms', default='stacked')
  parser.add_argument('--ours', nargs=3)
  args = parser.parse_args()
  if args.ours:
    _ours(*args.ours)
    return
  from walt_jax.pretrained import i3d
  with tempfile.TemporaryDirectory() as folder:
    weights, clips = f'{folder}/weights.npz', f'{folder}/clips.npy'
    np.savez(weights, **_flatten(i3d.load()[0]))
    np.save(clips, _clips(args.clips, args.frames))
    workers = {form: _Worker(
        sys.executable, '-m', 'benchmarks.i3d_speed', '--ours', clips,
        f'{folder}/{form}.npy', form) for form in args.forms.split(',')}
    if args.torch_python:
      workers |= {f'torch {layout}': _Worker(
          args.torch_python, str(_PEER), weights, clips,
          f'{folder}/torch.npy', layout)
                  for layout in ('contiguous', 'channels_last')}
    for turn in range(args.turns + 1):
      for worker in workers.values():
        worker.take_turn(counts=turn > 0)
    for worker in workers.values():
      worker.close()
    result = dict(frames=args.frames, clips=args.clips, turns=args.turns)
    result |= {name: worker.summary() for name, worker in workers.items()}
    peers = [result[name]['median'] for name in workers if 'torch' in name]
    for form in args.forms.split(','):
      if peers:
        gap = np.abs(np.load(f'{folder}/{form}.npy')
                     - np.load(f'{folder}/torch.npy')).max()
        result[form] |= dict(
            largest_logit_gap=float(gap),
            times_torch=result[form]['median'] / min(peers))
  print(json.dumps(result, indent=1))


if __name__ == '__main__':
  main()
