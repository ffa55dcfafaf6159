"""Stopping in good order: a signal, the step's end, a checkpoint, the end."""
import contextlib
import signal

import jax

from walt_jax.core import interrupts
from walt_jax.core import supervised
from walt_jax.parallel import distributed

_NOTICE = 'Stopping at the end of this step; the state will be saved.'


class Preempted(interrupts.InOrder):
  """The run was asked to stop; its state is saved.

  Left alone it ends the process with exit code 75, or 130 after Ctrl-C.
  """

  def __init__(self, step: int, number: int = signal.SIGTERM):
    super().__init__(number, f'at step {step}, which is saved; the same '
                     'command continues there')
    self.step = step


class StopSignal:
  """Lets signals stop a run between two steps.

  Until there is something to lose (`hold`) a signal ends the run at once.
  Then the first one asks for a stop at the next step's end, and a second one
  ends the run: the user is in a hurry.

  In a run of several processes a SIGTERM to any of them stops all after the
  same step: JAX notes it, and the processes agree on the step.

  Attributes:
    number: The signal that asks to stop; SIGTERM where JAX noted it.
  """

  def __init__(self):
    self.number = signal.SIGTERM
    self._together = jax.process_count() > 1
    self._stop_together = False
    self._holds = False
    self._calls = 0
    self._stack = contextlib.ExitStack()

  def __enter__(self):
    self._watch = self._stack.enter_context(interrupts.watching())
    return self

  def __exit__(self, kind, *error):
    noted, self._watch.noted = self._watch.noted, None
    self._watch.keep('')
    self._stack.close()
    if noted is not None and kind is None:  # It came after the last step.
      raise interrupts.Stopped(noted)

  def hold(self) -> None:
    """From now on there is something to lose."""
    if not self._holds:
      self._holds = True
      supervised.hold()
      if not self._together:
        self._watch.keep(_NOTICE)

  def requested(self, step: int) -> bool:
    """Returns whether to stop after `step`; equal in every process.

    To be called after every step.
    """
    if self._watch.noted is not None:
      self.number = self._watch.noted
      return True
    if self._together and not self._stop_together:
      # Steps may be taken again; calls only count up.
      self._calls += 1
      self._stop_together = distributed.stop_together(self._calls)
      if self._stop_together and jax.process_index() == 0:
        print(f'Stopping after step {step}; the state will be saved.',
              flush=True)
    return self._stop_together
