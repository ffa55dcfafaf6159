"""When a checkpoint is due by the clock, alike in every process."""
from collections.abc import Callable
import time

import jax

from walt_jax.parallel import distributed


class SaveClock:
  """Tells after which step so many seconds have passed since the last save.

  Clocks of several processes differ: the first one's decides, and is asked
  after logged steps alone, since each question is a message.
  """

  def __init__(self, seconds: float, log_every: int, *,
               clock: Callable[[], float] = time.monotonic):
    """Starts the clock.

    Args:
      seconds: Seconds from save to save; 0: none is due.
      log_every: Steps between logged steps.
      clock: Seconds.
    """
    self._seconds = seconds
    self._log_every = log_every
    self._clock = clock
    self._saved = clock()
    self._calls = 0

  def due(self, step: int) -> bool:
    """Whether to save after `step`; to be called after every step."""
    if not self._seconds:
      return False
    late = self._clock() - self._saved >= self._seconds
    if jax.process_count() == 1:
      return late
    if step % self._log_every:
      return False
    # Steps may be taken again; calls only count up.
    self._calls += 1
    return distributed.first_says(f'save {self._calls}', late)

  def saved(self) -> None:
    """Notes that a checkpoint was just written."""
    self._saved = self._clock()
