"""The main job from end to end, small: `make quickstart`.

Runs the public commands in the order in which a user would, printing each one
before it starts. A rerun after an interruption finishes the work. What the
commands made is then scored against baselines that are measured the same way
(`scores.json`) and shown in `report.html`.
"""
import dataclasses
import json
import pathlib
import shlex
import time

from walt_jax.commands import cli
from walt_jax.core import files
from walt_jax.core import host_memory
from walt_jax.data.sources import moving_digits
from walt_jax.quickstart import scores as quickstart_scores
from walt_jax.report import score_cards
from walt_jax.report import scores_file

_CONFIG = 'quickstart'
NUM_CONTROL_SAMPLES = 160


@dataclasses.dataclass(frozen=True)
class Plan:
  """How much of everything.

  Attributes:
    suffix: Suffix of the config's variants.
    difficulty: Difficulty of the moving digits.
    train_clips: Clips to train on at 32, 64 and 128 pixels.
    held_out_clips: Held-out clips likewise.
    num_control_samples: Base samples whose digit and direction are read.
    fvd_clips: Clips of each set that FVD compares.
    warm_up: Where the base begins; None: at random parameters.
  """
  suffix: str
  difficulty: str
  train_clips: tuple[int, int, int]
  held_out_clips: tuple[int, int, int]
  num_control_samples: int
  fvd_clips: int
  warm_up: 'WarmUp | None' = None


@dataclasses.dataclass(frozen=True)
class WarmUp:
  """An easier task that the base learns first.

  Attributes:
    difficulty: Difficulty of its moving digits.
    train_clips: Clips to train on.
    num_steps: Training steps.
  """
  difficulty: str
  train_clips: int
  num_steps: int


SHORT = Plan('', 'quick', (2048, 384, 192), (64, 16, 16), 160, 32)
LONG = Plan('_long', 'free', (12288, 1536, 512), (64, 16, 16), 160, 32,
            # Fresh backgrounds take all gradients of a base that cannot draw
            # digits yet (docs/measurements/training.md).
            WarmUp('quick', 4096, 3000))
SIZES = (32, 64, 128)
STAGES = ('base', 'sr1', 'sr2')


def commands(plan: Plan, out: pathlib.Path) -> list[tuple[str, list[str]]]:
  """The public commands, each with a name for the timing table."""
  def render(size, num_train, held, difficulty, name):
    return [
        'data', 'render', 'moving_digits', '--split', 'train', '--num',
        str(num_train), '--heldout', str(held), '--size', str(size),
        '--difficulty', difficulty, '--labels', 'digit',
        '--output', f'{out}/data/{name}']

  def cache(name, size, *flags):
    return [
        'data', 'prepare', '--latents', '--workdir', f'{out}/tokenizer',
        '--input', f'{out}/data/{name}', '--output', f'{out}/latents/{name}',
        '--size', str(size), *flags]

  def train(stage, name, *flags):
    return [
        'train', '--config', f'{_CONFIG}:{stage}{plan.suffix}',
        f'--config.tokenizer.workdir={out}/tokenizer',
        f'--config.data.path={out}/latents/{name}', *flags]

  steps = [
      (f'render {size} px', render(size, count, held, plan.difficulty, size))
      for size, count, held in zip(
          SIZES, plan.train_clips, plan.held_out_clips, strict=True)]
  steps.append(('train tokenizer', [
      'train', '--config', f'{_CONFIG}:tokenizer{plan.suffix}', '--workdir',
      f'{out}/tokenizer']))
  captions = ('--text', 'minilm', '--max_tokens', '8')
  # A doubling is much like the next one.
  begin = {'sr2': [f'--config.init_from={out}/sr1']}
  if plan.warm_up:
    warm, name, count = plan.warm_up, 'warm_up', plan.warm_up.num_steps
    begin['base'] = [f'--config.init_from={out}/base_warm_up']
    steps += [
        ('render the warm-up', render(
            32, warm.train_clips, plan.held_out_clips[0], warm.difficulty,
            name)),
        ('cache latents of the warm-up', cache(name, 32, *captions)),
        ('train the base\'s warm-up', train(
            'base', name, f'--config.train.num_steps={count}',
            f'--config.optimizer.decay_steps={count}',
            '--workdir', f'{out}/base_warm_up'))]
  for index, (size, stage) in enumerate(zip(SIZES, STAGES, strict=True)):
    steps.append((f'cache latents {size} px', cache(
        size, size, *(('--low_res_factor', '2') if index else captions))))
    if index == 0:
      steps.append(('save step-0 base', train(
          stage, size, '--config.train.num_steps=0',
          '--config.train.eval_every=0', '--workdir', f'{out}/base_step0')))
    steps.append((f'train {stage}', train(
        stage, size, *begin.get(stage, ()), '--workdir', f'{out}/{stage}')))
  requests = _write_requests(out, plan.num_control_samples)
  steps += [
      ('sample base', [
          'sample', '--workdir', f'{out}/base', '--requests',
          str(requests['both']), '--out', f'{out}/base_samples',
          '--batch_size', '32']),
      ('sample step-0 base', [
          'sample', '--workdir', f'{out}/base_step0', '--requests',
          str(requests['few']), '--out', f'{out}/step0_samples',
          '--batch_size', '32']),
      ('sample the cascade', [
          'sample', '--workdir', ','.join(f'{out}/{s}' for s in STAGES),
          '--requests', str(requests['mixed']), '--out', f'{out}/samples',
          '--all_stages',
          '--batch_size', '4']),
      ('score control', [
          'evaluate', 'control', '--generated', f'{out}/base_samples',
          '--json', f'{out}/control.json']),
  ]
  return steps


def _write_requests(out: pathlib.Path, count: int) -> dict[str, pathlib.Path]:
  """Request files: caption and label, a few of them, and one or the other."""
  asked = [(i // 4 % 10, i % 4) for i in range(count)]
  both = [dict(prompt=moving_digits.caption(*pair),
               label=moving_digits.WORDS[pair[0]]) for pair in asked]
  mixed = [both[5 * i % 40] for i in range(8)]
  for i, line in enumerate(mixed):
    # By caption, by label, by both.
    mixed[i] = ({k: v for k, v in line.items() if k != 'label'} if i % 4 == 1
                else dict(label=line['label']) if i % 4 == 3 else line)
  found = {}
  for name, lines in dict(
      both=both,
      few=[both[5 * i % 40] for i in range(32)],
      mixed=mixed).items():
    found[name] = out / 'requests' / f'{name}.jsonl'
    found[name].parent.mkdir(parents=True, exist_ok=True)
    files.write_text(
        found[name], ''.join(json.dumps(line) + '\n' for line in lines))
  return found


def run(plan: Plan, out: pathlib.Path) -> int:
  """Runs every command, the scores and the report; returns an exit code."""
  start = time.perf_counter()
  timings: list[scores_file.Timing] = []
  for name, argv in commands(plan, out):
    print(f'\n$ walt {shlex.join(argv)}', flush=True)
    begin = time.perf_counter()
    code = cli.main(argv)
    if code:
      return code
    timings.append(scores_file.Timing(name, time.perf_counter() - begin))
    print(f'({name}: {timings[-1].seconds:.0f} s)', flush=True)
  print('\nScoring against baselines ..', flush=True)
  begin = time.perf_counter()
  scores = quickstart_scores.measure(out, plan.fvd_clips, plan.difficulty)
  timings.append(scores_file.Timing(
      'score FVD, reconstruction, super-resolution',
      time.perf_counter() - begin))
  total = time.perf_counter() - start
  peak = host_memory.peak_bytes()
  timings.append(scores_file.Timing(scores_file.WHOLE_RUN, total, peak))
  scores_file.write_scores(out, scores, timings,
                          dict(difficulty=plan.difficulty))
  # An earlier report of this folder may show other clips, or fewer.
  report = ['report', str(out), '--overwrite']
  print(f'\n$ walt {shlex.join(report)}', flush=True)
  code = cli.main(report)
  _print_summary(out, scores, total, peak)
  return code


def summary_line(score: scores_file.Score) -> str:
  """A score and its baselines in one line."""
  beside = ', '.join(
      f'{baseline.name} {score_cards.with_unit(baseline.value, score.unit)}'
      for baseline in score.baselines)
  return (f'{score.group}: {score.name} '
          f'{score_cards.with_unit(score.value, score.unit)}'
          + (f' ({beside})' if beside else ''))


def _print_summary(out, scores, total, peak) -> None:
  print()
  for score in scores:
    print(summary_line(score))
  print(f'\n{total / 60:.1f} minutes, {peak / 2**30:.1f} GiB at most. '
        f'Open {out}/report.html', flush=True)
