"""What optimizers, and drawing an image first, make of the quickstart's base.

  make quickstart
  python -m benchmarks.base_recipes --quickstart runs/quickstart \
    --out runs/base_recipes [--only NAME ..]

Every recipe trains the quickstart's base for its own number of steps, draws
the clips that the quickstart asks for, and is scored by the digits and
directions that can be read and by the loss of held-out clips. A rerun
continues where the last one stopped. Outcome: `results.json`; the documents'
tables are made of benchmarks/results/base_recipes.json.
"""
import argparse
import json
import pathlib
import sys
from typing import Any

from benchmarks import harness
from walt_jax.commands import cli
from walt_jax.core import run_files

_CONFIG = 'configs/quickstart.py:base'
_ADAMW = {'optimizer.name': 'adamw'}
RECIPES: dict[str, dict[str, str]] = {  # Config keys that differ.
    'muon_8e-3': {},  # The quickstart's own.
    'adamw_3e-3': _ADAMW | {'optimizer.peak_lr': '3e-3'},
    'adamw_8e-3': _ADAMW | {'optimizer.peak_lr': '8e-3'},
    'muon_3e-3': {'optimizer.peak_lr': '3e-3'},
    'muon_1.6e-2': {'optimizer.peak_lr': '1.6e-2'},
    'all_at_once': {
        'data.image_rows': '0', 'model.frame_condition': 'False',
        'sampler.factorized': 'False',
        'diffusion.frame_condition_probability': '0.0'},
}


def main() -> None:
  """Entry point."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--quickstart', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--only', nargs='+', choices=tuple(RECIPES),
                      default=tuple(RECIPES))
  args = parser.parse_args()
  rows = {name: _row(args, name) for name in args.only}
  harness.write('base_recipes', rows, path=args.out / 'results.json')


def _row(args, name: str) -> dict[str, Any]:
  """Trains, samples and scores a recipe, or what is missing of that."""
  out = args.out / name
  if not (out / 'control.json').is_file():
    _walt('train', '--config', _CONFIG, '--workdir', out / 'run',
          f'--config.tokenizer.workdir={args.quickstart / "tokenizer"}',
          f'--config.data.path={args.quickstart / "latents" / "32"}',
          *(f'--config.{key}={value}' for key, value in RECIPES[name].items()))
    _walt('sample', '--workdir', out / 'run', '--out', out / 'samples',
          '--requests', args.quickstart / 'requests' / 'both.jsonl',
          '--batch_size', '32')
    _walt('evaluate', 'control', '--generated', out / 'samples',
          '--json', out / 'control.json')
  control = json.loads((out / 'control.json').read_text())
  last = [line for line in run_files.read_metrics(out / 'run').lines
          if 'eval/v_loss' in line][-1]
  return dict(
      overrides=RECIPES[name], steps=last['step'],
      v_loss=last['eval/v_loss'], v_loss_given=last.get('eval/v_loss_given'),
      digit=control['digit'], direction=control['direction'])


def _walt(*argv) -> None:
  code = cli.main([str(value) for value in argv])
  if code:
    sys.exit(code)


if __name__ == '__main__':
  main()
