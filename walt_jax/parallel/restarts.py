"""A training that is started again when it fails, for as long as that helps.

It helps while checkpoints advance. What the history of the work directory
tells of earlier starts counts too, so a scheduler that starts the command
again and again is stopped alike, by exit code 2.
"""
from collections.abc import Callable, Sequence
import dataclasses
import pathlib
import queue
import sys
import time
from typing import NoReturn

from walt_jax.core import errors
from walt_jax.core import exit_codes
from walt_jax.core import interrupts
from walt_jax.core import run_files
from walt_jax.core import run_history
from walt_jax.parallel import children

# Between two starts; twice as long with each that brought nothing.
FIRST_SECONDS = 5.0
MOST_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Policy:
  """How often to start again.

  Attributes:
    workdir: The run's directory.
    limit: Restarts between which no checkpoint advanced.
    writes: Whether this process notes what the child could not; one does.
  """
  workdir: pathlib.Path
  limit: int
  writes: bool = True


def run(policy: Policy, start: Callable[[], int]) -> int:
  """Starts a training until it ends in order.

  Args:
    policy: How often.
    start: Runs it once and returns its exit code.

  Returns:
    The exit code of the last start.

  Raises:
    UserError: Too many starts in a row brought no checkpoint.
    interrupts.Stopped: At a signal between two starts.
  """
  workdir = policy.workdir
  step = run_files.newest_step(workdir)
  earlier = run_history.read(workdir).attempts
  fruitless, code, again = _fruitless(earlier, step), None, False
  while True:
    if fruitless > policy.limit:
      _refuse(policy, step, fruitless, code)
    if fruitless or again:
      _wait(policy, fruitless, step, code)
    before = run_history.read(workdir).attempts
    try:
      code = start()
    except errors.UserError as error:
      if not again:
        raise
      # The others do not come any more: one of them is lost.
      code = exit_codes.HOST_LOST
      _say(str(error))
    if code in exit_codes.FINAL:
      if policy.writes:
        _note_final(workdir, before, code)
      return code
    if policy.writes:
      _note(workdir, before, step, code)
    was, step = step, run_files.newest_step(workdir)
    fruitless = fruitless + 1 if step == was else 0
    again = True


def alone(command: Sequence[str], *, seconds: float = 60.0) -> int:
  """Runs a command in a child and returns its exit code.

  The first signal asks the child to stop, the second one ends it.

  Args:
    command: Program and arguments, see `children.Child`.
    seconds: Silence after which the child counts as lost.
  """
  events: queue.SimpleQueue[children.Event] = queue.SimpleQueue()
  signals: list[int] = []
  with interrupts.watching() as watch, watch.diverted(
      lambda number: events.put(('signal', number))):
    child = children.Child(command, events.put, seconds=seconds)
    try:
      while True:
        kind, what = events.get()
        if kind == 'child':
          code = what
          break
        if kind == 'hung':
          _say(f'the process that works has been silent for {what:.0f} s: it '
               'was stopped, or hangs; it is ended')
          return exit_codes.HOST_LOST
        if kind == 'signal':
          signals.append(what)
          if len(signals) == 1:
            child.signal(what)
          else:
            child.end_soon()
    finally:
      child.kill()
  if signals and code < 0:  # It could not answer.
    _say(interrupts.words_of(signals[0]))
    return interrupts.code_of(signals[0])
  return code


def _fruitless(attempts: Sequence[run_history.Attempt],
               step: int | None) -> int:
  """Starts at the end of a history that began at this step and failed."""
  count = 0
  for attempt in reversed(attempts):
    if attempt.code in exit_codes.FINAL or attempt.step != (
        -1 if step is None else step):
      break
    count += 1
  return count


def _note(workdir: pathlib.Path, before: Sequence[run_history.Attempt],
          step: int | None, code: int) -> None:
  """Notes how an attempt ended, and its start if it came to nothing."""
  if len(run_history.read(workdir).attempts) == len(before):
    run_history.note_start(workdir, step)
  run_history.note_end(workdir, code)


def _note_final(workdir: pathlib.Path, before: Sequence[run_history.Attempt],
                code: int) -> None:
  """Notes an end in order that the child had no time to note."""
  attempts = run_history.read(workdir).attempts
  if len(attempts) > len(before) and attempts[-1].code is None:
    run_history.note_end(workdir, code)


def _refuse(policy: Policy, step: int | None, fruitless: int,
            code: int | None) -> NoReturn:
  if policy.writes:
    # Whoever has fixed it may start again: the count begins anew.
    run_history.note_start(policy.workdir, step)
    run_history.note_end(policy.workdir, exit_codes.USER_ERROR)
  how = '' if code is None else f', the last with exit code {code}'
  raise errors.UserError(
      f'{fruitless} starts in a row brought no checkpoint {_since(step)}{how} '
      f'(--restarts {policy.limit}); the lines above tell why they ended: fix '
      'that, then run the same command')


def _wait(policy: Policy, fruitless: int, step: int | None,
          code: int | None) -> None:
  """Says why, and waits."""
  seconds = min(FIRST_SECONDS * 2 ** max(fruitless - 1, 0), MOST_SECONDS)
  if not policy.writes:
    # The first host, which the others come to, first takes the last start down.
    seconds += FIRST_SECONDS
  how = 'earlier starts failed' if code is None else f'exit code {code}'
  _say(f'{how}; {fruitless} of at most {policy.limit} restarts brought no '
       f'checkpoint {_since(step)}; starting again in {seconds:.0f} s')
  time.sleep(seconds)


def _since(step: int | None) -> str:
  return 'at all' if step is None else f'after step {step}'


def _say(text: str) -> None:
  print(f'walt: {text}', file=sys.stderr, flush=True)
