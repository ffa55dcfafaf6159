"""Ctrl-C at random moments of every command.

  python -m benchmarks.faults.interrupts --moments 50 --seed 0

Each command runs once undisturbed, then is sent SIGINT, as a terminal does to
all of its processes, at moments drawn between its first line of Python and its
end. It must end within seconds with exit code 130 and one line, and leave no
process, no temporary file and nothing half made.
"""
import argparse
from collections.abc import Callable, Sequence
import dataclasses
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SMOKE = 'configs/quickstart.py:smoke'
# Tells when Python has begun; before that no program can answer.
_START = ('import os, sys; import walt_jax.__main__ as walt; '
          'os.write({mark}, b"."); os.close({mark}); sys.exit(walt.main())')
_PROGRESS = re.compile(r'\d+%\||\d+/\d+ \[|^\s*$')
_SECONDS = 10.0  # After which an answer is late.
_LINE = 'walt: interrupted'

Argv = Callable[[pathlib.Path, pathlib.Path], Sequence[str]]

# By name: flags, of the folder of inputs and of the folder to write.
COMMANDS: dict[str, Argv] = {
    'config': lambda made, out: ['config', _SMOKE],
    'render': lambda made, out: [
        'data', 'render', 'moving_digits', '--split', 'train', '--num', '300',
        '--size', '32', '--clips', '0', '--output', f'{out}/data'],
    'train': lambda made, out: [
        'train', '--config', _SMOKE, '--workdir', f'{out}/run',
        '--config.train.num_steps=40'],
    'restarts': lambda made, out: [
        'train', '--config', _SMOKE, '--workdir', f'{out}/run', '--restarts',
        '2', '--config.train.num_steps=40'],
    'workers': lambda made, out: [
        'train', '--config', _SMOKE, '--workdir', f'{out}/run',
        '--config.train.num_steps=40', '--config.data.num_workers=2'],
    'sample': lambda made, out: [
        'sample', '--workdir', f'{made}/run', '--out', f'{out}/samples',
        '--num_samples', '6', '--steps', '3'],
    'prepare': lambda made, out: [
        'data', 'prepare', '--input', f'{made}/videos', '--output',
        f'{out}/data', '--size', '16', '--num_frames', '4', '--workers', '2'],
    'inspect': lambda made, out: [
        'data', 'inspect', f'{made}/data', '--out', f'{out}/sheet.png'],
    'export': lambda made, out: [
        'export', '--workdir', f'{made}/run', '--out', f'{out}/export'],
    'report': lambda made, out: ['report', f'{made}'],
    'plan': lambda made, out: ['plan', '--config', _SMOKE],
}


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a command ended.

  Attributes:
    moment: Seconds from its first line to the signal; None: undisturbed.
    seconds: From the signal to its end; without one, from the first line.
    code: Exit code.
    wrong: What should not be, in words; '' for nothing.
  """
  moment: float | None
  seconds: float
  code: int
  wrong: str


def attempt(argv: Sequence[str], out: pathlib.Path,
            moment: float | None = None) -> Outcome:
  """Runs a command, interrupted at a moment.

  Args:
    argv: Its flags.
    out: Folder that it may write to; made anew.
    moment: When, in seconds from its first line of Python; None: never.
  """
  shutil.rmtree(out, ignore_errors=True)
  (out / 'tmp').mkdir(parents=True)
  read, mark = os.pipe()
  with open(out / 'err', 'w+') as err:
    process = subprocess.Popen(
        [sys.executable, '-c', _START.format(mark=mark), *argv],
        stdout=subprocess.DEVNULL, stderr=err, pass_fds=[mark], cwd=_ROOT,
        env=os.environ | {'TMPDIR': str(out / 'tmp'),
                          'PYTHONPATH': str(_ROOT)},
        start_new_session=True)
    os.close(mark)
    os.read(read, 1)
    os.close(read)
    began = time.monotonic()
    if moment is not None:
      try:
        process.wait(moment)
      except subprocess.TimeoutExpired:
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
      else:
        moment = None
    try:
      code = process.wait(300 if moment is None else 60)
    except subprocess.TimeoutExpired:
      code = 0
    seconds = time.monotonic() - began
    left = _processes(process.pid)
    process.wait()
    err.seek(0)
    said = err.read()
  return Outcome(moment, seconds, code, '' if moment is None else '; '.join(
      _wrong(code, seconds, said, left, out)))


def _wrong(code: int, seconds: float, said: str, left: Sequence[str],
           out: pathlib.Path) -> list[str]:
  wrong = []
  lines = [line for line in said.replace('\r', '\n').splitlines()
           if not _PROGRESS.search(line)]
  if code == 0 and not lines:
    lines = [_LINE]  # It was done before it saw the signal.
  elif code != 130:
    wrong.append(f'exit code {code}')
  if len(lines) != 1 or not lines[0].startswith(_LINE):
    wrong.append(f'{len(lines)} lines, the last {lines[-1:]}')
  if seconds > _SECONDS:
    wrong.append(f'{seconds:.1f} s')
  if left:
    wrong.append(f'processes left: {left}')
  halves = [path.relative_to(out).as_posix() for path in out.rglob('*')
            if 'partial' in path.name or path.parent == out / 'tmp']
  if halves:
    wrong.append(f'left: {halves[:3]}')
  return wrong


def _processes(session: int) -> list[str]:
  """Command lines of a session's processes, after moments to end; kills them.
  """
  deadline = time.monotonic() + 3.0
  while True:
    found = {}
    for folder in pathlib.Path('/proc').glob('[0-9]*'):
      try:
        fields = (folder / 'stat').read_text().rpartition(')')[2].split()
        if int(fields[3]) == session and fields[0] != 'Z':
          found[int(folder.name)] = (folder / 'cmdline').read_text()[:80]
      except OSError:
        continue
    if not found or time.monotonic() > deadline:
      break
    time.sleep(0.05)
  for process in found:
    try:
      os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
      continue
  return list(found.values())


def make_inputs(made: pathlib.Path, names: Sequence[str]) -> None:
  """Makes what some commands read, by other commands."""
  steps = {'data': ('inspect',), 'run': ('sample', 'export', 'report',
                                         'prepare')}
  made.mkdir(parents=True, exist_ok=True)
  if set(steps['data']) & set(names):
    _make('data', 'render', 'moving_digits', '--split', 'train', '--num', '20',
          '--size', '32', '--clips', '0', '--output', f'{made}/data')
  if set(steps['run']) & set(names):
    _make('train', '--config', _SMOKE, '--workdir', f'{made}/run')
  if 'prepare' in names:
    _make('sample', '--workdir', f'{made}/run', '--out', f'{made}/videos',
          '--num_samples', '8', '--steps', '1')
    for path in (made / 'videos').iterdir():
      if path.suffix != '.mp4':
        path.unlink()


def _make(*argv: str) -> None:
  subprocess.run([sys.executable, '-m', 'walt_jax', *argv], check=True,
                 cwd=_ROOT, stdout=subprocess.DEVNULL)


def try_command(name: str, made: pathlib.Path, out: pathlib.Path, moments: int,
                draw: random.Random) -> list[Outcome]:
  """Interrupts a command at random moments; the first outcome is undisturbed.
  """
  argv = COMMANDS[name](made, out)
  whole = attempt(argv, out)
  if whole.code:
    raise RuntimeError(f'{name} fails undisturbed: '
                       f'{(out / "err").read_text()[-2000:]}')
  return [whole, *(attempt(argv, out, draw.uniform(0.01, whole.seconds))
                   for _ in range(moments))]


def main() -> int:
  """Prints a row a command; returns 1 if anything went wrong."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--moments', type=int, default=50)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', type=lambda text: text.split(','),
                      default=list(COMMANDS))
  args = parser.parse_args()
  # Ignored signals are inherited, as by what nohup runs.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  bad = 0
  with tempfile.TemporaryDirectory() as folder:
    made = pathlib.Path(folder, 'made')
    make_inputs(made, args.only)
    for name in args.only:
      whole, *outcomes = try_command(
          name, made, pathlib.Path(folder, 'out'), args.moments,
          random.Random(f'{args.seed} {name}'))
      wrong = [one for one in outcomes if one.wrong]
      bad += len(wrong)
      hit = [one for one in outcomes if one.moment is not None]
      print(json.dumps(dict(
          command=name, seconds=round(whole.seconds, 2), tried=len(outcomes),
          interrupted=sum(one.code == 130 for one in hit),
          done_before=len(outcomes) - len(hit) + sum(
              one.code == 0 for one in hit), wrong=len(wrong),
          slowest_answer=round(max([one.seconds for one in hit], default=0),
                               2))), flush=True)
      for one in wrong:
        print(f'  at {one.moment:.2f} s: {one.wrong}', flush=True)
  return 1 if bad else 0


if __name__ == '__main__':
  sys.exit(main())
