"""The paper's ablations (Table 3) on moving digits, beside its own outcome.

  make quickstart
  python -m benchmarks.ablations --quickstart runs/quickstart \
    --out runs/ablations --steps 600 --seeds 0 1

Every variant trains the quickstart's base, without its linear skip (the
paper's network), for the same steps with each seed, draws the same captions,
and is scored by FVD against held-out clips, and by the digits and directions
that can be read. A rerun continues where the last one stopped. The outcome is
in `table.md` and `results.json`.
"""
import argparse
from collections.abc import Sequence
import dataclasses
import json
import pathlib
import statistics
import sys

import numpy as np

from benchmarks import harness
from walt_jax.commands import cli
from walt_jax.core import exports
from walt_jax.core import run_files
from walt_jax.data.sources import moving_digits
from walt_jax.quickstart import scores as scores_lib

_CONFIG = 'configs/quickstart.py:base'
# Clips alone, all frames at once, as in the paper's table.
_PLAIN_OVERRIDES = {
    'model.linear_skip': 'False', 'data.image_rows': '0',
    'model.frame_condition': 'False', 'sampler.factorized': 'False',
    'diffusion.frame_condition_probability': '0.0'}
PLAIN = 'plain'
_UNNORMALISED = 'no latent normalisation'


@dataclasses.dataclass(frozen=True)
class Ablation:
  """One change of the plain base.

  Attributes:
    overrides: Config keys and their values.
    paper: FVD without and with the change (Table 3).
  """
  overrides: dict[str, str]
  paper: tuple[float, float]


ABLATIONS = {
    # The plain base has no input for it; a second pass costs a third of the
    # steps.
    'self-conditioning': Ablation(
        {'model.self_condition': 'True',
         'diffusion.self_condition_probability': '0.9'}, (109.9, 61.4)),
    'no zero terminal SNR': Ablation(
        {'diffusion.zero_terminal_snr': 'False'}, (60.7, 91.0)),
    _UNNORMALISED: Ablation({}, (60.7, 67.9)),
    'full attention': Ablation(
        {'model.spatial_window': '(5, 4, 4)',
         'model.spacetime_window': '(5, 4, 4)'}, (59.6, 59.9)),
    'patch 1 instead of 2': Ablation(
        {'model.patch': '1', 'model.spatial_window': '(1, 8, 8)',
         'model.spacetime_window': '(5, 4, 4)'}, (134.4, 60.7)),
    'rank 64 instead of 2': Ablation({'model.lora_rank': '64'}, (60.7, 54.4)),
}


def main() -> None:
  """Entry point."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--quickstart', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--only', nargs='*', choices=tuple(ABLATIONS))
  parser.add_argument('--steps', type=int, default=600)
  parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
  parser.add_argument('--samples', type=int, default=160)
  parser.add_argument('--fvd_clips', type=int, default=64,
                      help='0 for none; the network is slow on a CPU')
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  _write_inputs(args)
  results = {
      name: [_score(args, name, seed) for seed in args.seeds]
      for name in (PLAIN, *(args.only or ABLATIONS))}
  harness.write('ablations', results, path=args.out / 'results.json')
  text = table(results)
  (args.out / 'table.md').write_text(text)
  print(text)


def _write_inputs(args) -> None:
  """Captions to draw, and real clips."""
  lines = [json.dumps(dict(prompt=moving_digits.caption(i // 4 % 10, i % 4)))
           for i in range(args.samples)]
  (args.out / 'captions.jsonl').write_text('\n'.join(lines) + '\n')
  if args.fvd_clips:
    real = scores_lib.held_out(args.quickstart / 'data' / '32')
    np.save(args.out / 'real.npy',
            np.stack([clip['video'] for clip in real[:args.fvd_clips]]))


def _score(args, name: str, seed: int) -> dict[str, float]:
  """Trains, samples and scores one variant; remembers what is done."""
  out = args.out / f'{name.replace(" ", "_")}_{seed}'
  done = out / 'scores.json'
  if done.is_file():
    return json.loads(done.read_text())
  tokenizer = args.quickstart / 'tokenizer'
  latents = args.quickstart / 'latents' / '32'
  overrides = _PLAIN_OVERRIDES | (
      {} if name == PLAIN else ABLATIONS[name].overrides)
  if name == _UNNORMALISED:
    tokenizer, latents = _unnormalised(args)
  _walt('train', '--config', _CONFIG, '--workdir', out / 'run',
        f'--config.tokenizer.workdir={tokenizer}',
        f'--config.data.path={latents}', f'--config.seed={seed}',
        f'--config.train.num_steps={args.steps}',
        f'--config.optimizer.decay_steps={args.steps}',
        *(f'--config.{key}={value}' for key, value in overrides.items()))
  _walt('sample', '--workdir', out / 'run', '--out', out / 'samples',
        '--requests', args.out / 'captions.jsonl', '--batch_size', '32',
        '--guidance', 'text=2.5', '--seed', seed)
  _walt('evaluate', 'control', '--generated', out / 'samples',
        '--json', out / 'control.json')
  control = json.loads((out / 'control.json').read_text())
  scores = {key: control[key]['accuracy'] for key in ('digit', 'direction')}
  if args.fvd_clips:
    _walt('evaluate', 'fvd', '--real', args.out / 'real.npy', '--generated',
          out / 'samples', '--json', out / 'fvd.json')
    scores['fvd'] = json.loads((out / 'fvd.json').read_text())['value']
  done.write_text(json.dumps(scores))
  return scores


def _unnormalised(args) -> tuple[pathlib.Path, pathlib.Path]:
  """The tokenizer with statistics that change nothing, and its latents."""
  export, latents = args.out / 'unnormalised', args.out / 'unnormalised_latents'
  arrays, config = exports.load_export(
      args.quickstart / 'tokenizer' / run_files.EXPORT)
  channels = arrays['statistics']['mean'].shape
  arrays['statistics'] = dict(mean=np.zeros(channels, np.float32),
                              std=np.ones(channels, np.float32))
  exports.save_export(export, arrays, config)
  _walt('data', 'prepare', '--latents', '--workdir', export, '--input',
        args.quickstart / 'data' / '32', '--output', latents, '--size', '32',
        '--text', 'minilm', '--max_tokens', '8')
  return export, latents


def _walt(*argv) -> None:
  code = cli.main([str(value) for value in argv])
  if code:
    sys.exit(code)


def table(results: dict[str, Sequence[dict[str, float]]]) -> str:
  """The outcome as Markdown: each change beside the plain base.

  Args:
    results: By variant, one dict of scores a seed; 'plain' is among them.
  """
  names = list(results[PLAIN][0])
  lines = [
      '| change | ' + ' | '.join(f'{name}: plain -> changed'
                                 for name in names) +
      " | paper's FVD | agrees |", '| --- ' * (len(names) + 3) + '|']
  for change, changed in results.items():
    if change == PLAIN:
      continue
    pairs = {name: [[run[name] for run in runs]
                    for runs in (results[PLAIN], changed)] for name in names}
    cells = [' -> '.join(' '.join(f'{value:.3g}' for value in values)
                         for values in pairs[name]) for name in names]
    before, after = ABLATIONS[change].paper
    cells.append(f'{before} -> {after}')
    sign = -1 if 'fvd' in pairs else 1  # FVD is better when it is lower.
    measured = pairs['fvd' if 'fvd' in pairs else 'digit']
    cells.append(_agreement(
        [[sign * value for value in runs] for runs in measured],
        better=after < before))
    lines.append(f'| {change} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'


def _agreement(scores: Sequence[Sequence[float]], *, better: bool) -> str:
  """Whether the score of every seed, more being better, went the paper's way.
  """
  plain, changed = scores
  sign = 1 if better else -1
  if all(sign * (b - a) > 0 for a in plain for b in changed):
    return 'yes'
  if all(sign * (b - a) < 0 for a in plain for b in changed):
    return 'no'
  side = sign * (statistics.mean(changed) - statistics.mean(plain)) > 0
  return f'within the spread of seeds ({"towards" if side else "against"})'


if __name__ == '__main__':
  main()
