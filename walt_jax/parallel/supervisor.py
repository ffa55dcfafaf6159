"""A parent process for each process of a run on several hosts.

JAX ends the survivors of a lost host with a fatal error in C++: no Python
handler runs, and the host that is missing is not named. So the command runs
in a child, and the parents of all hosts keep in touch (`hub`, `link`): they
start the children when everybody is there with the same command, pass signals
on, and when a process is gone each says which one it was, stops its own and
ends with `exit_codes.HOST_LOST`.
"""
from collections.abc import Sequence
import contextlib
import os
import queue
import signal
import sys
import time
from typing import Any

from walt_jax.core import errors
from walt_jax.core import exit_codes
from walt_jax.core import interrupts
from walt_jax.core import waiting
from walt_jax.parallel import children
from walt_jax.parallel import hosts as hosts_lib
from walt_jax.parallel import hub as hub_lib
from walt_jax.parallel import link as link_lib
from walt_jax.parallel import secret as secret_lib

# A child that ends because another did needs so long to be found out.
_NEWS_SECONDS = 3.0
# How much later others may come and be told why nobody starts.
_REFUSAL_SECONDS = 5.0
# How long others may take to end in order after one has.
_END_SECONDS = 60.0
# From a signal until the hub has said how to stop.
_STOP_SECONDS = 5.0

# Of `link` and `children`, and ('signal', number), ('late', None).
Event = tuple[str, Any]


def run(hosts: hosts_lib.Hosts, command: Sequence[str], *,
        seconds: float = 60.0, start_seconds: float = 300.0,
        again: str = 'again', alike: Sequence[str] = (),
        folder: str | os.PathLike | None = None) -> int:
  """Runs a command in a child, together with the other hosts' children.

  Args:
    hosts: The run.
    command: Program and arguments, see `children.Child`.
    seconds: Silence after which a host or a child counts as lost.
    start_seconds: Time to wait for all hosts.
    again: What to do after a loss: 'Run the same command on every host ..'.
    alike: Words that must be the same on every host.
    folder: One that all hosts share, for the run's secret.

  Returns:
    The exit code: the child's own, or one of `exit_codes`.

  Raises:
    UserError: If the others do not come, which names those who are missing,
      or if one of them runs something else.
    interrupts.Stopped: A signal came before the child was started.
  """
  secret = secret_lib.find(os.environ, folder, hosts.coordinator)
  with contextlib.ExitStack() as stack:
    hub = None
    if hosts.process_id == 0:
      stack.enter_context(secret.made())
      hub = hub_lib.Hub(hosts, seconds, alike, secret.read() or b'')
      stack.callback(hub.close)
      hub.start()
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    link = link_lib.Link(hosts, seconds, events, secret)
    stack.callback(link.close)
    link.connect(start_seconds, alike)
    supervisor = _Supervisor(hosts, hub, link, events, again)
    supervisor.wait_for_all(start_seconds)
    return supervisor.run(command, seconds)


class _Supervisor:
  """One host's parent, once it has come to the hub."""

  def __init__(self, hosts: hosts_lib.Hosts, hub: hub_lib.Hub | None,
               link: link_lib.Link, events: 'queue.SimpleQueue[Event]',
               again: str):
    self._hosts, self._hub, self._link = hosts, hub, link
    self._events, self._again = events, again
    self._gone: list[dict[str, Any]] = []
    self._child: children.Child | None = None
    self._signals: list[int] = []
    self._stop = ''  # 'now' or 'save', once all stop.

  def wait_for_all(self, seconds: float) -> None:
    """Waits until all processes have come; raises as `run` does."""
    # Process 0 knows who is missing, and tells the others.
    patience = seconds + (0.0 if self._hub else _NEWS_SECONDS)
    with waiting.told(self._whom):
      kind, what = self._next(patience)
    if kind == 'ready':
      return
    if kind == 'refused':
      if self._hub is not None:
        self._hub.tell_refusal(_REFUSAL_SECONDS)
      raise errors.UserError(str(what))
    if kind == 'gone':
      raise errors.UserError(
          f'{self._say(what)} before the run began; run the same '
          'command on every host again')
    why = (f'after {seconds:.0f} s of waiting, '
           f'{self._missing() or "not all processes"} of '
           f'{self._hosts.num_processes} (from {self._hosts.source}) '
           'had not come; run the same command on every host')
    if self._hub is not None:
      self._hub.refuse_all(why)
    raise errors.UserError(why)

  def _whom(self) -> str:
    who = self._missing() or 'the other processes'
    return f'for {who} of {self._hosts.num_processes} to come'

  def _missing(self) -> str:
    missing = self._hub.missing() if self._hub else []
    return ', '.join(self._hosts.name_of(one) for one in missing)

  def run(self, command: Sequence[str], seconds: float) -> int:
    """Runs the command; returns the exit code."""
    with interrupts.watching() as watch, watch.diverted(
        lambda number: self._events.put(('signal', number))):
      self._child = children.Child(
          command, self._events.put, seconds=seconds, kind='several')
      try:
        code = self._until_the_end()
        self._child.kill()
        self._link.send(ended=code)
        if self._hub is not None and len(self._signals) < 2:
          self._hub.wait_for_ends(_END_SECONDS)
        return self._own_code(code)
      finally:
        self._child.kill()

  def _next(self, seconds: float) -> Event:
    try:
      return self._events.get(timeout=max(seconds, 0.0))
    except queue.Empty:
      return 'late', None

  def _until_the_end(self) -> int:
    deadline = None
    while True:
      kind, what = self._next(
          3600.0 if deadline is None else deadline - time.monotonic())
      if kind == 'gone':
        self._gone.append(what)
        return self._after_a_loss()
      if kind == 'child':
        return self._after_the_child(what)
      if kind == 'hung':
        return self._after_silence(what)
      if kind == 'holds':
        self._link.send(holds=True)
      if kind == 'signal':
        self._signals.append(what)
        if len(self._signals) > 1:
          self._child.kill()
          return self._stopped()
        self._link.send(stopping=True)
        deadline = time.monotonic() + _STOP_SECONDS
      if kind == 'stop' or (kind == 'late' and deadline is not None):
        deadline = None
        self._stop_child(what or 'save')

  def _stop_child(self, how: str) -> None:
    self._stop = how
    if how == 'now':
      self._child.end_soon()
    else:
      self._child.signal(signal.SIGTERM)

  def _stopped(self) -> int:
    """Says that a signal has ended this run, of this host or another."""
    number = self._signals[0] if self._signals else signal.SIGTERM
    print(f'walt: {interrupts.words_of(number)}', file=sys.stderr, flush=True)
    return exit_codes.STOPPED

  def _own_code(self, code: int) -> int:
    """The exit code of this process: Ctrl-C has one of its own."""
    if code == exit_codes.STOPPED and self._signals:
      return interrupts.code_of(self._signals[0])
    return code

  def _after_the_child(self, code: int) -> int:
    if self._stop and code not in (exit_codes.DONE, exit_codes.USER_ERROR):
      if self._stop == 'save' and code == exit_codes.STOPPED:
        return code  # The child has said at which step.
      if self._stop == 'now':
        return self._stopped()
    self._link.send(ended=code)
    if code in exit_codes.FINAL:
      return code
    # Did it end because of another? Theirs comes first, or within moments.
    self._gather_news(_NEWS_SECONDS)
    if _first_cause(self._gone) is None or hub_lib.is_cause(code):
      print(f'{self._child.fault}walt: '
            f'{self._hosts.name_of(self._hosts.process_id)}, this one, '
            f'{hub_lib.how(code)}', file=sys.stderr, flush=True)
      return exit_codes.HOST_LOST if code < 0 else code
    return self._name_the_lost()

  def _after_silence(self, seconds: float) -> int:
    why = (f'has been silent for {seconds:.0f} s: it was stopped, or hangs')
    self._link.send(ended=-signal.SIGKILL, why=why)
    print(f'walt: {self._hosts.name_of(self._hosts.process_id)}, this one, '
          f'{why}', file=sys.stderr, flush=True)
    return exit_codes.HOST_LOST

  def _after_a_loss(self) -> int:
    """Gives the child a moment to end by itself, with an error of its own."""
    deadline = time.monotonic() + _NEWS_SECONDS
    while (left := deadline - time.monotonic()) > 0:
      kind, what = self._next(left)
      if kind == 'child':
        if what in exit_codes.FINAL:
          return what
        break
      if kind == 'gone':
        self._gone.append(what)
    self._gather_news(0.0)
    return self._name_the_lost()

  def _gather_news(self, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
      kind, what = self._next(deadline - time.monotonic())
      if kind == 'late':
        return
      if kind == 'gone':
        self._gone.append(what)

  def _name_the_lost(self) -> int:
    lost = _first_cause(self._gone) or self._gone[0]
    print(f'walt: {self._say(lost)}; this host stops too. Run the same '
          f'command on every host {self._again}.', file=sys.stderr, flush=True)
    return exit_codes.HOST_LOST

  def _say(self, gone: dict[str, Any]) -> str:
    name = self._hosts.name_of(gone['process'])
    if gone['host'] and not self._hosts.names:
      name = f'{name} on {gone["host"]}'
    return f'{name} {gone["why"]}'


def _first_cause(gone: list[dict[str, Any]]) -> dict[str, Any] | None:
  return next((one for one in gone if one['is_cause']), None)
