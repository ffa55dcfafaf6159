"""What became of a run so far: its starts, checkpoints and ends.

`history.jsonl` in the work directory has an object a line, with `event` and
`time` (seconds since 1970): a `start` and the step that it begins at, a `save`
with its step and the seconds of productive steps up to it, an `end` with the
exit code. What was killed has no end. One process of a run writes.
"""
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import json
import os
import time
from typing import Any

from walt_jax.core import errors
from walt_jax.core import exit_codes
from walt_jax.core import files
from walt_jax.core import interrupts
from walt_jax.core import json_text
from walt_jax.core import paths
from walt_jax.core import run_files

_NOTHING_YET = -1


@dataclasses.dataclass(frozen=True)
class Attempt:
  """One start of a run.

  Attributes:
    began: Seconds since 1970.
    step: Step of the newest checkpoint when it began; -1: there was none.
    code: Exit code; None: it was killed, or is under way.
    ended: Seconds since 1970, or None as for `code`.
  """
  began: float
  step: int
  code: int | None = None
  ended: float | None = None


@dataclasses.dataclass(frozen=True)
class History:
  """The events of a run, in order.

  Attributes:
    attempts: Its starts.
    productive: Seconds of productive steps up to each checkpoint, by step.
  """
  attempts: tuple[Attempt, ...] = ()
  productive: dict[int, float] = dataclasses.field(default_factory=dict)

  def wall_seconds(self, now: float) -> float:
    """Seconds since the first start, those after a finished one left out.

    Without a start, as processes beyond the first have it, there are none.

    Args:
      now: Seconds since 1970.
    """
    if not self.attempts:
      return 0.0
    ends = [attempt.began for attempt in self.attempts[1:]] + [now]
    total = 0.0
    for attempt, until in zip(self.attempts, ends, strict=True):
      if attempt.code == exit_codes.DONE and attempt.ended is not None:
        until = attempt.ended
      total += max(until - attempt.began, 0.0)
    return total


def read(workdir: str | os.PathLike) -> History:
  """Reads the history of a run; one without any has none.

  Lines that hold no event, such as half a line, are passed over.
  """
  attempts: list[Attempt] = []
  productive: dict[int, float] = {}
  path = paths.path(workdir) / run_files.HISTORY
  text = path.read_bytes().decode(errors='replace') if path.is_file() else ''
  for line in text.splitlines():
    try:
      event = json_text.loads(line)
      kind, at = event['event'], float(event['time'])
      if kind == 'start':
        attempts.append(Attempt(at, int(event['step'])))
      elif kind == 'save':
        productive[int(event['step'])] = float(event['productive_seconds'])
      elif kind == 'end' and attempts:
        attempts[-1] = dataclasses.replace(
            attempts[-1], code=int(event['code']), ended=at)
    except (ValueError, TypeError, KeyError, OverflowError):
      continue
  return History(tuple(attempts), productive)


def note_start(workdir: str | os.PathLike, step: int | None, *,
               began: float | None = None) -> None:
  """Notes a start.

  Args:
    workdir: The run's directory, made where it is absent.
    step: Step of the newest checkpoint; None: there is none.
    began: When, in seconds since 1970; now by default.
  """
  _append(workdir, dict(
      event='start', time=time.time() if began is None else began,
      step=_NOTHING_YET if step is None else step))


def note_save(workdir: str | os.PathLike, step: int,
              productive_seconds: float) -> None:
  """Notes that a checkpoint of a step is being written."""
  _append(workdir, dict(event='save', time=time.time(), step=step,
                        productive_seconds=productive_seconds))


def note_end(workdir: str | os.PathLike, code: int) -> None:
  """Notes the exit code of the newest start."""
  _append(workdir, dict(event='end', time=time.time(), code=code))


@contextlib.contextmanager
def ended(note: Callable[[int], None]) -> Iterator[None]:
  """Calls `note(exit code)` when its body ends, however it ends."""
  try:
    yield
  except errors.UserError:
    note(exit_codes.USER_ERROR)
    raise
  except interrupts.Stopped as stop:
    note(stop.code)
    raise
  except KeyboardInterrupt:
    note(exit_codes.INTERRUPTED)
    raise
  except SystemExit as stop:
    note(stop.code if isinstance(stop.code, int) else exit_codes.DONE)
    raise
  except BaseException:
    note(exit_codes.FAULT)
    raise
  note(exit_codes.DONE)


def _append(workdir: str | os.PathLike, event: dict[str, Any]) -> None:
  path = paths.make_folder(workdir) / run_files.HISTORY
  line = json.dumps(event) + '\n'
  if not paths.is_remote(path):
    with open(path, 'a') as file:
      file.write(line)
    return
  # A bucket appends to nothing.
  before = path.read_text() if path.is_file() else ''
  files.write_text(path, before + line)
