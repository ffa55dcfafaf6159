"""Draws an input and tries it: accepted, refused, or stray and why."""
import random
import resource
import signal
import sys
import time
import traceback
import warnings

from benchmarks.fuzz import reader as reader_lib

ACCEPTED, REFUSED, STRAY = 'accepted', 'refused', 'stray'


class _TooLong(BaseException):
  """The time of an input is over; nothing of a reader may catch it."""


def draw(reader: reader_lib.Reader, target: reader_lib.Target, seed: int,
         number: int) -> bytes:
  """The input of a number: the same in every run and on every machine."""
  rng = random.Random(f'{seed} {reader.name} {number}')
  return reader.mutate(rng, rng.choice(target.seeds))


def attempt(reader: reader_lib.Reader, target: reader_lib.Target,
            data: bytes) -> tuple[str, str]:
  """Tries an input; returns what became of it, and why it is stray."""

  def stop(*_):
    raise _TooLong

  before = signal.signal(signal.SIGPROF, stop)
  signal.setitimer(signal.ITIMER_PROF, reader.seconds)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      target.read(data)
    return ACCEPTED, ''
  except reader.refusals:
    return REFUSED, ''
  except _TooLong:
    return STRAY, f'took more than {reader.seconds:g} s'
  except BaseException as error:
    return STRAY, _described(error)
  finally:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def _described(error: BaseException) -> str:
  """An exception, and the last places of ours that it came through."""
  places = [f'{frame.filename.rsplit("/walt_jax/", 1)[-1]}:{frame.lineno}'
            for frame in traceback.extract_tb(error.__traceback__)
            if '/walt_jax/' in frame.filename]
  text = ' '.join(str(error).split())[:200]
  return f'{type(error).__name__}: {text} ({" ".join(places[-2:])})'


def peak_mib() -> float:
  """The most memory that this process ever had."""
  unit = 1 << 20 if sys.platform == 'darwin' else 1 << 10
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)


def cpu_seconds() -> float:
  """The processor time of this process."""
  return time.process_time()
