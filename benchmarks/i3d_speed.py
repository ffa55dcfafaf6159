"""Seconds a clip of I3D here and in PyTorch, one run, the same clips.

  python -m benchmarks.i3d_speed --torch_python VENV/bin/python

Also compares the logits. The two run in turns, each in its own process with
all cores, so that neither sees the other's threads.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

_PEER = pathlib.Path(__file__).parent / 'i3d_torch_peer.py'
_REPEATS = 3


def _clips(count: int, frames: int) -> np.ndarray:
  """Moving digits at 224 x 224 in [-1, 1], as I3D sees a 32 x 32 model's."""
  from walt_jax.data import moving_digits
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


def _ours(weights: str, clips: str, out: str, form: str):
  import jax

  from walt_jax.pretrained import i3d
  params = jax.device_put(i3d.load()[0])
  x = jax.device_put(np.load(clips))
  run = jax.jit(lambda p, c: i3d.features(p, c, conv_form=form))
  seconds = []
  for i in range(_REPEATS + 1):
    start = time.perf_counter()
    logits = [np.asarray(run(params, clip[None]))[0] for clip in x]
    if i:
      seconds.append((time.perf_counter() - start) / len(x))
  np.save(out, np.stack(logits))
  print(json.dumps(dict(seconds=min(seconds), version=jax.__version__)))


def _run(command) -> dict:
  output = subprocess.run(command, check=True, capture_output=True, text=True)
  return json.loads(output.stdout.splitlines()[-1])


def main():
  """Prints one JSON object."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--torch_python')
  parser.add_argument('--frames', type=int, default=16)
  parser.add_argument('--clips', type=int, default=4)
  parser.add_argument('--forms', default='stacked')
  parser.add_argument('--ours', nargs=4)
  args = parser.parse_args()
  if args.ours:
    _ours(*args.ours)
    return
  from walt_jax.pretrained import i3d
  with tempfile.TemporaryDirectory() as folder:
    weights, clips, theirs = (
        f'{folder}/{name}' for name in ('weights.npz', 'clips.npy', 't.npy'))
    np.savez(weights, **_flatten(i3d.load()[0]))
    np.save(clips, _clips(args.clips, args.frames))
    result = dict(frames=args.frames)
    for form in args.forms.split(','):
      out = f'{folder}/{form}.npy'
      result[form] = _run([
          sys.executable, '-m', 'benchmarks.i3d_speed', '--ours', weights,
          clips, out, form])
      if args.torch_python:
        result['torch'] = peer = _run(
            [args.torch_python, str(_PEER), weights, clips, theirs,
             str(_REPEATS)])
        gap = np.abs(np.load(out) - np.load(theirs)).max()
        result[form] |= dict(
            largest_logit_gap=float(gap),
            times_torch=result[form]['seconds'] / peer['seconds'])
  print(json.dumps(result, indent=1))


if __name__ == '__main__':
  main()
