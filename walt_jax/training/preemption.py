"""Stopping in good order: a signal, the step's end, a checkpoint, code 75."""
import signal
import threading

import jax

from walt_jax.parallel import distributed

# BSD's EX_TEMPFAIL: schedulers take it for "run me again".
EXIT_CODE = 75


class Preempted(SystemExit):
  """The run was asked to stop; its state is saved.

  Left alone it ends the process with exit code 75.
  """

  def __init__(self, step: int):
    super().__init__(EXIT_CODE)
    self.step = step

  def __str__(self) -> str:
    return f'Stopped by a signal at step {self.step}, which is saved.'


class StopSignal:
  """Notes SIGTERM and SIGINT while it is entered.

  The first signal asks for a stop at the next step's end. A second one acts as
  it would without this: the user is in a hurry.

  In a run of several processes a SIGTERM to any of them stops all after the
  same step: JAX notes it, and the processes agree on the step.
  """

  def __init__(self):
    self._requested = False
    self._calls = 0
    self._together = jax.process_count() > 1
    self._previous = {}

  def __enter__(self):
    # Python allows handlers in the main thread alone.
    if not self._together and (
        threading.current_thread() is threading.main_thread()):
      for number in (signal.SIGTERM, signal.SIGINT):
        self._previous[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *error):
    self._restore()

  def _note(self, number, frame):
    del number, frame
    self._requested = True
    print('Stopping at the end of this step; the state will be saved.',
          flush=True)
    self._restore()

  def _restore(self):
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    self._previous = {}

  def requested(self, step: int) -> bool:
    """Returns whether to stop after `step`; equal in every process.

    To be called after every step.
    """
    if self._together and not self._requested:
      # Steps may be taken again; calls only count up.
      self._calls += 1
      self._requested = distributed.stop_together(self._calls)
      if self._requested and jax.process_index() == 0:
        print(f'Stopping after step {step}; the state will be saved.',
              flush=True)
    return self._requested
