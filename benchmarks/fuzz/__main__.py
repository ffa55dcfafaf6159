"""Feeds changed inputs to every reader of stored or foreign bytes.

  python -m benchmarks.fuzz --minutes 30 --seed 1 [--reader NAME]
  python -m benchmarks.fuzz --reader NAME --seed 1 --show NUMBER
  python -m benchmarks.fuzz --minutes 0 --add RESULT ..

Runs add up in benchmarks/results/fuzz.json: other seeds try other inputs, the
same one continues. `make tables` then writes the table of
docs/reliability.md. The second form tries one input again, shows what it
raises and keeps it as a file; the third adds runs of other places. Exit code 1:
some inputs were stray.
"""
import argparse
import json
import pathlib
import sys
import tempfile
import time

from benchmarks import harness
from benchmarks.fuzz import children
from benchmarks.fuzz import counts as counts_lib
from benchmarks.fuzz import one_input
from benchmarks.fuzz import reader as reader_lib
from benchmarks.fuzz import readers as readers_lib

# A round of one reader; the one with the fewest inputs has the next.
_ROUND_INPUTS, _ROUND_SECONDS = 2_000, 20.0


def main() -> int:
  """Runs the fuzzer; see above."""
  args = _arguments()
  known = readers_lib.by_name()
  chosen = {name: known[name] for name in args.reader or known}
  with tempfile.TemporaryDirectory(prefix='fuzz-', dir=args.folder) as folder:
    if args.show is not None:
      return _show(chosen, pathlib.Path(folder), args)
    before = _before(args.out)
    for other in args.add:
      _add(before, _before(other))
    found = {name: counts_lib.Counts(**before.get(name, {}))
             for name in chosen}
    for _ in _rounds(chosen, found, pathlib.Path(folder), args):
      _write(args.out, before, found)
  _write(args.out, before, found)
  _print(found)
  return int(any(counts.stray for counts in found.values()))


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  add = parser.add_argument
  add('--minutes', type=float, default=1.0, help='time for all readers')
  add('--inputs', type=int, help='end sooner: so many of each reader')
  add('--seconds', type=float, help='and no more time than this of each')
  add('--seed', type=int, default=0)
  add('--reader', nargs='*', choices=sorted(readers_lib.by_name()))
  add('--out', type=pathlib.Path, default=harness.RESULTS / 'fuzz.json')
  add('--add', type=pathlib.Path, nargs='*', default=(),
      help='files of other runs, to be added to --out')
  add('--folder', help='where inputs are written; a disk in memory is fast')
  add('--show', type=int, metavar='NUMBER', help='try one input again')
  add('--save', type=pathlib.Path, default=pathlib.Path('input.bin'),
      help='where --show keeps the input')
  return parser.parse_args()


def _write(path: pathlib.Path, before: dict[str, dict],
           found: dict[str, counts_lib.Counts]) -> None:
  harness.write('fuzz', before | {
      name: counts.record() for name, counts in found.items()}, path=path)


def _before(path: pathlib.Path) -> dict[str, dict]:
  """Counts of earlier runs by reader."""
  return json.loads(path.read_text())['rows'] if path.exists() else {}


def _add(rows: dict[str, dict], others: dict[str, dict]) -> None:
  """Adds the counts of another run."""
  for name, row in others.items():
    counts = counts_lib.Counts(**rows.get(name, {}))
    counts.add(counts_lib.Counts(**row))
    rows[name] = counts.record()


def _rounds(chosen: dict[str, reader_lib.Reader],
            found: dict[str, counts_lib.Counts], folder: pathlib.Path,
            args: argparse.Namespace):
  """Adds to what was found, a round at a time."""
  end = time.monotonic() + 60 * args.minutes
  goal = {name: counts.tried + args.inputs if args.inputs else None
          for name, counts in found.items()}
  left = dict.fromkeys(chosen, args.seconds or float('inf'))
  while left and time.monotonic() < end:
    name = min(left, key=lambda name: found[name].tried)
    room = (_ROUND_INPUTS if goal[name] is None
            else min(_ROUND_INPUTS, goal[name] - found[name].tried))
    began = time.monotonic()
    found[name].add(children.run(
        chosen[name], folder / name, args.seed,
        found[name].next_number.get(str(args.seed), 0), room,
        min(_ROUND_SECONDS, left[name], end - time.monotonic())))
    left[name] -= time.monotonic() - began
    if left[name] <= 0 or found[name].tried == goal[name]:
      del left[name]
    yield name


def _print(found: dict[str, counts_lib.Counts]) -> None:
  """The table, and what was stray."""
  print(f'{"reader":<24} {"tried":>9} {"passed":>7} {"accepted":>9} '
        f'{"refused":>9} {"stray":>6} {"slowest":>9} {"memory":>9}')
  for name, counts in found.items():
    share = counts.passed / max(1, counts.tried)
    print(f'{name:<24} {counts.tried:>9,} {share:>7.0%} '
          f'{counts.accepted:>9,} {counts.refused:>9,} {counts.stray:>6,} '
          f'{counts.slowest:>7.2f} s {counts.jump_mib:>5.0f} MiB')
  total = sum(counts.tried for counts in found.values())
  stray = sum(counts.stray for counts in found.values())
  print(f'{len(found)} readers, {total:,} inputs, {stray:,} stray')
  for name, counts in found.items():
    for stray in counts.strays:
      print(f'{name} --seed {stray["seed"]} --show {stray["number"]}: '
            f'{stray["why"]}')


def _show(chosen: dict[str, reader_lib.Reader], folder: pathlib.Path,
          args: argparse.Namespace) -> int:
  """Tries one input with nothing around it."""
  (name, reader), = chosen.items()
  target = reader.make(folder / name)
  data = one_input.draw(reader, target, args.seed, args.show)
  args.save.write_bytes(data)
  print(f'{len(data)} bytes in {args.save}; passes its header: '
        f'{reader.passes(data)}; {data[:300]!r}')
  try:
    target.read(data)
  except reader.refusals as error:
    print(f'refused: {error}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
