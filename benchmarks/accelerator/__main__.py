"""Everything worth knowing of a chip that is at hand for a few minutes.

  python -m benchmarks.accelerator --minutes 8
  python -m benchmarks.accelerator --minutes 4 --output FILE
  python -m benchmarks.accelerator --smoke          # any machine, tiny models

In order: fused kernels against the plain form; the train step of L against its
compiled PyTorch twin, in turns; its profile beside the ledger; kernels in other
blocks; a network of kernels against the plain form; other forms of the step;
self-conditioning; sampling; the tokenizer; XL. A case runs if its estimate
fits what is left, in a process of its own, and its row is written as soon as
it is known. Peak memory stands beside what the compiler planned.

It imports jax, flax, optax and numpy alone, and torch for the twin.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import harness
from benchmarks.accelerator import cases as cases_lib
from benchmarks.accelerator import turns

_RESERVE = 10  # Seconds that are kept for ending.
_DEVICE = ('import jax, json; d = jax.devices()[0]; '
           'print(json.dumps(dict(platform=d.platform, device=d.device_kind)))')


def main(argv: list[str] | None = None) -> int:
  """Runs what fits and writes the rows; 1 if a case failed."""
  args = _parse(argv)
  began = time.monotonic()
  deadline = began + 60 * args.minutes - _RESERVE
  with tempfile.TemporaryDirectory() as cache:
    # Compiled once, though a program may be wanted by two cases.
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', cache)
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
    # Two processes share the chip, and the profile is of one at its own size.
    os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
    device = json.loads(subprocess.run(
        [sys.executable, '-c', _DEVICE], check=True, capture_output=True,
        text=True).stdout)
    place = cases_lib.Place(
        device['platform'], args.smoke, deadline, args.torch_python,
        args.keep)
    rows: dict[str, harness.Row] = dict(device=device)
    return _run_all(place, args, rows)


def _run_all(place: cases_lib.Place, args: argparse.Namespace,
             rows: dict[str, harness.Row]) -> int:
  """Measures one case after the other, and writes after each."""
  failed = False
  for case in cases_lib.cases(place):
    if args.only and case.name not in args.only:
      continue
    left = place.deadline - time.monotonic()
    if left < (1 if place.smoke else case.seconds):
      print(f'{case.name}: left out, {case.seconds:.0f} s do not fit '
            f'{max(left, 0):.0f}', flush=True)
      continue
    began = time.monotonic()
    try:
      row = case.run()
    except turns.ChildError as e:
      row, failed = dict(error=str(e)), True
    row['took_seconds'] = round(time.monotonic() - began, 1)
    rows[case.name] = row
    harness.write('accelerator', rows, path=args.output)
    print(json.dumps({case.name: row}), flush=True)
  return int(failed)


def _parse(argv: list[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
      prog='python -m benchmarks.accelerator',
      description=__doc__.split('\n')[0])
  parser.add_argument('--minutes', type=float, default=8,
                      help='when everything must have ended')
  parser.add_argument('--smoke', action='store_true',
                      help='tiny models, on any device')
  parser.add_argument('--only', type=lambda text: text.split(','),
                      help='names of cases, with commas between')
  parser.add_argument('--output', type=pathlib.Path,
                      help='file to write; default: '
                      'benchmarks/results/accelerator.json')
  parser.add_argument('--torch_python', default=sys.executable,
                      help='Python that has torch, for the twin')
  parser.add_argument('--keep', type=pathlib.Path,
                      help='folder for the text of the profiled program and '
                      'the times of all its instructions')
  args = parser.parse_args(argv)
  if args.smoke and not args.output:
    parser.error('--smoke measures nothing of worth: give an --output')
  return args


if __name__ == '__main__':
  sys.exit(main())
