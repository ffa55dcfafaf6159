"""What the discriminators are worth: two tokenizers, equal but for them.

  walt data prepare --input UCF-101 --output data/ucf101 --size 80 --heldout 0.3
  python -m benchmarks.tokenizer_gan --data data/ucf101 --out runs/gan

Trains `configs/tokenizer_video.py:ucf101_small_no_gan` and `:ucf101_small` (the
same seed, data and losses; the second also has a discriminator) and, every
600 steps, reconstructs the same held-out clips with the averaged weights:
PSNR, SSIM, perceptual distance, flicker and rFVD (I3D) over training, and the
health of the GAN over its last 500 steps. `--config.*` flags go to both
(`--config.seed=1`). A rerun continues where it stopped; to train both at
once, run it with `--train_only` for each, then without. The tables of
docs/measurements/tokenizer.md are its `scores.json`, its pictures `sheet.png`.
"""
import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np

from walt_jax.builders import tokenizers
from walt_jax.core import progress
from walt_jax.core import run_files
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.evaluation import reconstruct as reconstruct_lib
from walt_jax.media import contact_sheet
from walt_jax.media import video
from walt_jax.metrics import fvd
from walt_jax.metrics import reconstruction
from walt_jax.metrics import video_features
from walt_jax.sampling import compiled_tokenizer

CONFIG = 'configs/tokenizer_video.py'
GAN, PLAIN = VARIANTS = ('ucf101_small', 'ucf101_small_no_gan')
_FRAMES, _SIZE = 17, 64
_LAST = 500  # Steps over which the discriminator is looked at.


def held_out_clips(data: str, count: int) -> np.ndarray:
  """Clips of 17 successive frames, evenly spaced over the held-out split.

  Returns:
    uint8 [count, 17, 64, 64, 3].
  """
  dataset = dataset_lib.PreparedDataset(data, 'heldout')
  starts = [(row, first) for row in range(len(dataset))
            for first in range(0, codecs.num_frames(dataset[row]) - _FRAMES + 1,
                               _FRAMES)]
  if len(starts) < count:
    raise SystemExit(f'{data} has {len(starts)} held-out clips of {_FRAMES} '
                     f'frames, fewer than --clips {count}')
  chosen = np.linspace(0, len(starts) - 1, count).round().astype(int)
  found = []
  for index in chosen:
    row, first = starts[index]
    found.append(codecs.read_clip(
        dataset[row], np.arange(first, first + _FRAMES), _SIZE, _SIZE))
  return np.stack(found)


def train(variant: str, data: str, workdir: pathlib.Path, steps: int,
          flags: list[str]) -> None:
  """Trains, or continues, by the public command."""
  subprocess.run(
      [sys.executable, '-m', 'walt_jax', 'train', '--config',
       f'{CONFIG}:{variant}', '--workdir', str(workdir),
       f'--config.data.path={data}', f'--config.train.num_steps={steps}',
       *flags],
      check=True)


def reconstruct(workdir: pathlib.Path, clips: np.ndarray) -> np.ndarray:
  """What the averaged weights make of the clips."""
  tokenizer = tokenizers.load_tokenizer(str(workdir))
  return np.stack(list(reconstruct_lib.reconstructions(
      compiled_tokenizer.Codec(tokenizer), clips)))


def health(workdir: pathlib.Path, last: int = _LAST) -> dict[str, Any]:
  """The discriminator's accuracy over the last steps, and its start."""
  lines = run_files.read_metrics(workdir).lines
  end = max(line['step'] for line in lines)
  chosen = [line for line in lines if line['step'] > end - last and
            'train/discriminator_accuracy' in line]
  if not chosen:
    return {}
  result: dict[str, Any] = {'lines': len(chosen)}
  for name in ('discriminator_accuracy', 'logit_gap', 'lecam', 'grad_norm',
               'discriminator_grad_norm', 'adversarial_weight'):
    values = [line[f'train/{name}'] for line in chosen
              if f'train/{name}' in line]
    if values:
      result[name] = dict(mean=float(np.mean(values)), min=min(values),
                          max=max(values))
  # Single batches are small: a tenth of the span at a time.
  accuracy = [line['train/discriminator_accuracy'] for line in chosen]
  parts = [float(np.mean(part)) for part in np.array_split(
      accuracy, min(10, len(accuracy)))]
  result['accuracy_by_tenth'] = parts
  return result


def main() -> None:
  """Trains, scores, draws."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', required=True)
  parser.add_argument('--out', required=True, type=pathlib.Path)
  parser.add_argument('--steps', default='600,1200,1800,2400')
  parser.add_argument('--train_only', choices=VARIANTS)
  parser.add_argument('--clips', type=int, default=40)
  parser.add_argument('--no_rfvd', action='store_true')
  args, flags = parser.parse_known_args()
  if wrong := [flag for flag in flags if not flag.startswith('--config.')]:
    parser.error(f'unknown arguments: {" ".join(wrong)}')
  steps = [int(step) for step in args.steps.split(',')]
  args.out.mkdir(parents=True, exist_ok=True)
  real = held_out_clips(args.data, args.clips)
  np.save(args.out / 'real.npy', real)
  for variant in (args.train_only,) if args.train_only else VARIANTS:
    workdir = args.out / variant
    for step in steps:
      file = args.out / f'{variant}_{step}.npy'
      if not file.exists():
        train(variant, args.data, workdir, step, flags)
        np.save(file, reconstruct(workdir, real))
  if args.train_only:
    return
  pairs = reconstruction.load_networks()
  scores: dict[str, Any] = {
      variant: {step: reconstruction.compare_clips(
          real, np.load(args.out / f'{variant}_{step}.npy'), pairs,
          label=f'{variant} {step}') for step in steps}
      for variant in VARIANTS}
  scores['health'] = health(args.out / GAN)
  _write(args.out, scores)
  _sheet(args.out, real, steps[-1])
  if not args.no_rfvd:
    _add_rfvd(args.out, real, scores, steps)


def _add_rfvd(out: pathlib.Path, real: np.ndarray, scores: dict[str, Any],
              steps: list[int]) -> None:
  """The last step first: I3D takes seconds a clip on a CPU."""
  network = video_features.load_network(conv_form='stacked', batch_size=1)
  reference = fvd.feature_set(real, network, label='I3D: real')
  with progress.bar(len(steps) * len(VARIANTS), 'rFVD', 'set') as bar:
    for step in reversed(steps):
      for variant in VARIANTS:
        made = fvd.feature_set(np.load(out / f'{variant}_{step}.npy'), network,
                               label=f'I3D: {variant} {step}')
        scores[variant][step]['rfvd'] = fvd.compare(reference, made)['value']
        _write(out, scores)
        bar.update()


def _sheet(out: pathlib.Path, real: np.ndarray, step: int) -> None:
  """Real clips, each above what the two tokenizers make of it."""
  chosen = np.linspace(0, len(real) - 1, 5).round().astype(int)
  made = [np.load(out / f'{variant}_{step}.npy') for variant in (PLAIN, GAN)]
  rows = [clips[index] for index in chosen for clips in (real, *made)]
  names = ['real', 'without GAN', 'with GAN'] * len(chosen)
  video.write_png(out / 'sheet.png', contact_sheet.contact_sheet(
      rows, names, max_frames=6, min_side=128,
      title=f'held-out UCF-101, step {step}'))


def _write(out: pathlib.Path, scores: dict[str, Any]) -> None:
  (out / 'scores.json').write_text(json.dumps(scores, indent=1) + '\n')


if __name__ == '__main__':
  main()
