"""Tries inputs in a child process: what crashes or hangs it is counted."""
import json
import mmap
import os
import pathlib
import resource
import signal
import struct
import time
import traceback
import warnings

from benchmarks.fuzz import counts as counts_lib
from benchmarks.fuzz import one_input
from benchmarks.fuzz import reader as reader_lib

_STATE = struct.Struct('<6q2d')
_NAMES = ('tried', 'passed', 'accepted', 'refused', 'stray')
_HANG_SECONDS = 120.0  # Without another input; the machine may be busy.
_ADDRESS_SPACE = 8 << 30  # What a child may ask for beyond what it has.
_COPIES = 4  # Of an input, which may be large itself.
_SETTLED = 20  # Inputs after which memory is watched.


def run(reader: reader_lib.Reader, folder: pathlib.Path, seed: int,
        first: int, count: int, seconds: float) -> counts_lib.Counts:
  """Tries inputs of a reader from number `first` on.

  Args:
    reader: What reads them.
    folder: For its files.
    seed: Which inputs.
    first: Number of the first one.
    count: How many.
    seconds: Processor time after which no further one is begun.
  """
  total = counts_lib.Counts()
  number = first
  while number < first + count and seconds > 0:
    began = time.monotonic()
    found, number = _one_child(
        reader, folder, seed, number, first + count - number, seconds)
    total.add(found)
    if number < first + count and not _died(found):
      break  # Its time is over.
    seconds -= time.monotonic() - began
  total.next_number[str(seed)] = number
  return total


def _died(found: counts_lib.Counts) -> bool:
  return any(stray.get('fatal') for stray in found.strays)


def _one_child(reader: reader_lib.Reader, folder: pathlib.Path, seed: int,
               first: int, count: int, seconds: float
               ) -> tuple[counts_lib.Counts, int]:
  """Returns the counts of a child, and the number to continue at."""
  folder.mkdir(parents=True, exist_ok=True)
  strays = folder / 'strays.jsonl'
  strays.unlink(missing_ok=True)
  state = mmap.mmap(-1, _STATE.size)
  _STATE.pack_into(state, 0, first, 0, 0, 0, 0, 0, 0.0, 0.0)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Of threads, of which there are none.
    child = os.fork()
  if not child:
    code = 1
    try:
      _work(reader, folder, seed, first, count, seconds, state, strays)
      code = 0
    except Exception:
      (folder / 'fault').write_text(traceback.format_exc())
    finally:
      os._exit(code)
  reason = _wait(child, state)
  if (folder / 'fault').exists():
    raise RuntimeError(f'{reader.name}: {(folder / "fault").read_text()}')
  number, *numbers, slowest, jump = _STATE.unpack_from(state, 0)
  found = counts_lib.Counts(**dict(zip(_NAMES, numbers, strict=True)),
                            slowest=slowest, jump_mib=jump)
  if strays.exists():
    found.strays = list(map(json.loads, strays.read_text().splitlines()))
  if reason:
    found.tried += 1
    found.stray += 1
    found.strays.insert(0, dict(seed=seed, number=number, why=reason,
                                fatal=True))
    number += 1
  return found, number


def _wait(child: int, state: mmap.mmap) -> str:
  """Waits for a child; returns how it died, '' where it ended well."""
  seen, since, pause = -1, time.monotonic(), 0.001
  while True:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
      if os.WIFSIGNALED(status):
        return f'killed by {signal.Signals(os.WTERMSIG(status)).name}'
      return '' if not os.WEXITSTATUS(status) else 'ended the process'
    number = _STATE.unpack_from(state, 0)[0]
    if number != seen:
      seen, since = number, time.monotonic()
    elif time.monotonic() - since > _HANG_SECONDS:
      os.kill(child, signal.SIGKILL)
      os.waitpid(child, 0)
      return f'no answer within {_HANG_SECONDS:g} s'
    time.sleep(pause)
    pause = min(0.2, pause * 1.3)


def _work(reader: reader_lib.Reader, folder: pathlib.Path, seed: int,
          first: int, count: int, seconds: float, state: mmap.mmap,
          strays: pathlib.Path) -> None:
  """What the child does."""
  _quiet(folder)
  target = reader.make(folder / 'files')
  for valid in target.seeds:
    _must_be_read(reader, target, valid)
  _limit_memory()
  numbers = dict.fromkeys(_NAMES, 0)
  slowest = jump = 0.0
  peak, began = one_input.peak_mib(), one_input.cpu_seconds()
  for number in range(first, first + count):
    if one_input.cpu_seconds() - began > seconds:
      break
    _STATE.pack_into(state, 0, number, *numbers.values(), slowest, jump)
    data = one_input.draw(reader, target, seed, number)
    numbers['passed'] += reader.passes(data)
    before = one_input.cpu_seconds()
    outcome, why = one_input.attempt(reader, target, data)
    slowest = max(slowest, one_input.cpu_seconds() - before)
    more = one_input.peak_mib() - peak
    peak += more
    if number - first >= _SETTLED:
      jump = max(jump, more)
    if more > reader.memory_mib + _COPIES * len(data) / (1 << 20):
      outcome, why = one_input.STRAY, f'took {more:.0f} MiB'
    numbers['tried'] += 1
    numbers[outcome] += 1
    if outcome == one_input.STRAY:
      with strays.open('a') as file:
        file.write(json.dumps(dict(seed=seed, number=number, why=why)) + '\n')
    _STATE.pack_into(state, 0, number + 1, *numbers.values(), slowest, jump)


def _must_be_read(reader: reader_lib.Reader, target: reader_lib.Target,
                  valid: bytes) -> None:
  outcome, why = one_input.attempt(reader, target, valid)
  if outcome != one_input.ACCEPTED or not reader.passes(valid):
    os.write(2, f'{reader.name}: a valid input is {outcome} {why}\n'.encode())
    target.read(valid)
    raise AssertionError(f'{reader.name}: a valid input is {outcome} {why}')


def _quiet(folder: pathlib.Path) -> None:
  """What readers and their libraries say goes to a file."""
  log = os.open(folder / 'log', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  os.dup2(log, 1)
  os.dup2(log, 2)


def _limit_memory() -> None:
  """A lying size raises MemoryError, and no other process is killed for it."""
  with open('/proc/self/statm') as file:
    pages = int(file.read().split()[0])
  limit = pages * resource.getpagesize() + _ADDRESS_SPACE
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
