"""What the accelerator benchmark measures, in order of worth."""
from collections.abc import Callable, Iterator
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from benchmarks.accelerator import profiles
from benchmarks.accelerator import turns

Row = dict[str, Any]

# What builders choose for L in bfloat16 (`builders.networks`): attention, the
# passes between products, the pairs that a step of the loop executes. A CPU
# only tries the script.
DEFAULT_FORMS = dict(
    cpu=('xla', 'plain', 1), gpu=('fused_gpu', 'triton', 1_000),
    tpu=('fused_tpu', 'plain', 1))
_REMAT = 'matmuls'  # Of configs/ucf101.py:l.
# Attention worth a comparison, and kernels to hold against the plain form.
_OTHER_ATTENTION = dict(cpu=(), gpu=('cudnn', 'xla'), tpu=('xla',))
_KERNELS = dict(cpu=None, gpu='fused_gpu', tpu='fused_tpu')
_ROUNDS, _STEPS = 5, 6  # Of each program in turns.
_MAX_ERROR = 1500


@dataclasses.dataclass(frozen=True)
class Place:
  """Where and how long cases may run.

  Attributes:
    platform: 'cpu', 'gpu' or 'tpu'.
    smoke: Whether tiny models stand in, to try the script itself.
    deadline: `time.monotonic()` at which everything must have ended.
    torch_python: Python that has torch, for the twin.
    keep: Folder for the profiled program's text and all its times, if wanted.
  """
  platform: str
  smoke: bool
  deadline: float
  torch_python: str = sys.executable
  keep: pathlib.Path | None = None

  @property
  def size(self) -> str:
    return 'smoke' if self.smoke else 'l'

  def form(self, *, attention: str = '', passes: str = '', remat: str = _REMAT,
           unroll: int = 0, self_conditioning: float = 0.0) -> str:
    """A form as children take it, the platform's own where nothing is said."""
    own = DEFAULT_FORMS[self.platform]
    return (f'{attention or own[0]},{passes or own[1]},{remat},'
            f'{unroll or own[2]},{self_conditioning:g}')


@dataclasses.dataclass(frozen=True)
class Case:
  """One measurement.

  Attributes:
    name: Its key in the result.
    seconds: Estimate, compilation included; of the first cases what they took
      on an H200.
    run: Measures, and returns the row.
  """
  name: str
  seconds: float
  run: Callable[[], Row]


def cases(place: Place) -> Iterator[Case]:
  """All cases that this platform has, the most wanted first."""
  size, kernels = place.size, _KERNELS[place.platform]
  if kernels:
    yield Case('kernels', 65, lambda: _once(
        place, 'kernels', '--size', size, '--form', kernels))
  yield Case('train_l_and_twin', 200, lambda: _against_twin(place))
  yield Case('profile_l', 130, lambda: _once(
      place, 'child', 'profile', '--size', size, '--form', place.form(),
      *(['--keep', str(place.keep)] if place.keep else []),
      environment=profiles.ENVIRONMENT))
  if kernels == 'fused_gpu':
    yield Case('block_sizes', 80, lambda: _once(
        place, 'block_sizes', '--size', size))
  if kernels:
    yield Case('network', 135, lambda: _once(
        place, 'network', '--size', size, '--form', place.form()))
  forms = dict(
      train_l_looped=place.form(unroll=1),
      train_l_plain_passes=place.form(passes='plain'),
      train_l_minimal=place.form(remat='minimal'),
      **{f'train_l_{attention}': place.form(attention=attention)
         for attention in _OTHER_ATTENTION[place.platform]},
      train_l_self_conditioning=place.form(self_conditioning=0.9))
  for name, form in forms.items():
    yield Case(name, 45, lambda form=form: _alone(
        place, 'train', '--size', size, '--form', form))
  for guidance in (1.0, 1.5):
    yield Case(f'sample_l_guidance_{guidance:g}', 45,
               lambda guidance=guidance: _alone(
                   place, 'sample', '--size', size, '--form',
                   place.form(remat='none', self_conditioning=0.9),
                   '--guidance', str(guidance), '--steps',
                   '3' if place.smoke else '50'))
  for conv_form in ('stacked', 'native'):
    yield Case(f'tokenizer_{conv_form}', 100, lambda form=conv_form: _once(
        place, 'tokenizer', '--form', form,
        *(['--smoke'] if place.smoke else [])))
  yield Case('train_xl', 60, lambda: _alone(
      place, 'train', '--size', 'smoke' if place.smoke else 'xl', '--form',
      place.form(remat='minimal')))


def _child(place: Place, *arguments: str) -> turns.Child:
  return turns.Child([sys.executable, '-m', 'benchmarks.accelerator.child',
                      *arguments], place.deadline)


def _alone(place: Place, *arguments: str) -> Row:
  """Times one program."""
  child = _child(place, *arguments)
  try:
    ready = child.ask()
    times = turns.in_turns(dict(one=child), rounds=3, steps=_STEPS)['one']
    return _with_rate(ready | times)
  finally:
    child.close()


def _against_twin(place: Place) -> Row:
  """Our train step and the twin's in PyTorch, in turns on one device."""
  sizes = _twin_sizes(place.smoke)
  twin = turns.Child(
      [place.torch_python, '-m', 'benchmarks.denoiser_torch_peer', *sizes],
      place.deadline)
  ours = None
  try:
    about_twin = twin.ask()
    ours = _child(
        place, 'train', '--size', place.size, '--form', place.form())
    about_ours = ours.ask()
    times = turns.in_turns(dict(ours=ours, twin=twin), rounds=_ROUNDS,
                           steps=_STEPS)
    return dict(
        form=place.form(), ours=_with_rate(about_ours | times['ours']),
        twin=about_twin | times['twin'],
        speed_of_twin=round(times['twin']['ms'] / times['ours']['ms'], 3))
  finally:
    twin.close()
    if ours:
      ours.close()


def _twin_sizes(smoke: bool) -> list[str]:
  """The twin's flags: those of the sizes `smoke` and `l` of `programs`."""
  depth, width, heads, side, rows = (
      (2, 32, 2, 4, 2) if smoke else (24, 1024, 16, 16, 32))
  return ['--depth', str(depth), '--width', str(width), '--heads', str(heads),
          '--side', str(side), '--batch', str(rows)]


def _with_rate(row: Row) -> Row:
  """A row with the rate of its products, where it has any."""
  if row.get('flops'):
    row['tflops_per_second'] = round(
        row['flops'] / (1e-3 * row['ms']) / 1e12, 2)
  return row


def _once(place: Place, module: str, *arguments: str,
          environment: dict[str, str] | None = None) -> Row:
  """The row that a child prints last.

  Raises:
    ChildError: If it fails, or does not end in time.
  """
  try:
    done = subprocess.run(
        [sys.executable, '-m', f'benchmarks.accelerator.{module}', *arguments],
        capture_output=True, text=True, env=os.environ | (environment or {}),
        timeout=max(place.deadline - time.monotonic(), 1))
  except subprocess.TimeoutExpired:
    raise turns.ChildError('no answer in time') from None
  rows = [line for line in done.stdout.splitlines() if line.startswith('{')]
  if done.returncode or not rows:
    raise turns.ChildError(
        f'ended with {done.returncode}: {done.stderr[-_MAX_ERROR:].strip()}')
  return json.loads(rows[-1])


def has_torch(python: str) -> bool:
  """Whether the twin can run."""
  if python == sys.executable:
    return importlib.util.find_spec('torch') is not None
  return not subprocess.run([python, '-c', 'import torch'],
                            capture_output=True).returncode
