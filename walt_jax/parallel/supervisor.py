"""A parent process for each process of a run on several hosts.

JAX ends the survivors of a lost host with a fatal error in C++: no Python
handler runs, and the host that is missing is not named. So the command runs
in a child, and the parents of all hosts keep in touch: they start the children
when everybody is there with the same command, pass signals on, and when a
process is gone each says which one it was, stops its own and ends with
`EXIT_HOST_LOST`.

The parent of process 0 is the hub, on the port after the coordinator's.
"""
from collections.abc import Sequence
import contextlib
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from walt_jax.core import errors
from walt_jax.parallel import hosts as hosts_lib

# A process was lost; a training has saved nothing since its last checkpoint. As
# with 75, running the same command again on every host resumes the run.
EXIT_HOST_LOST = 76
_EXIT_PREEMPTED = 75
# Set for children, which then do the work instead of supervising.
CHILD = 'WALT_SUPERVISED'

_BEAT_SECONDS = 1.0
# A child that ends because another did needs so long to be found out.
_NEWS_SECONDS = 3.0
# How much later others may come and be told why nobody starts.
_REFUSAL_SECONDS = 5.0
# How long others may take to end in order after one has.
_END_SECONDS = 60.0

Event = tuple[str, Any]


def run(hosts: hosts_lib.Hosts, command: Sequence[str], *,
        seconds: float = 60.0, start_seconds: float = 300.0,
        again: str = 'again', alike: Sequence[str] = ()) -> int:
  """Runs a command in a child, together with the other hosts' children.

  Args:
    hosts: The run.
    command: Program and arguments; `CHILD` is set in its environment.
    seconds: Silence after which a host counts as lost.
    start_seconds: Time to wait for all hosts.
    again: What to do after a loss: 'Run the same command on every host ..'.
    alike: Words that must be the same on every host.

  Returns:
    The exit code: the child's own, or `EXIT_HOST_LOST`.

  Raises:
    UserError: If the others do not come, which names those who are missing,
      or if one of them runs something else.
  """
  supervisor = _Supervisor(hosts, seconds, again, list(alike))
  return supervisor.run(list(command), start_seconds)


class _Supervisor:
  """One host's parent."""

  def __init__(self, hosts: hosts_lib.Hosts, seconds: float, again: str,
               alike: list[str]):
    self._hosts = hosts
    self._seconds = seconds
    self._again, self._alike = again, alike
    self._events: queue.Queue[Event] = queue.Queue()
    self._gone: list[dict[str, Any]] = []
    self._child: subprocess.Popen | None = None
    self._signals = 0

  def run(self, command: list[str], start_seconds: float) -> int:
    hub = None
    if self._hosts.process_id == 0:
      hub = _Hub(self._hosts, self._seconds, self._alike)
      hub.start()
    link = _Link(self._hosts, self._seconds, self._events)
    try:
      link.connect(start_seconds, hub, self._alike)
      self._wait_for_all(start_seconds, hub)
      for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, self._pass_on)
      self._child = subprocess.Popen(
          command, env=os.environ | {CHILD: '1'}, start_new_session=True)
      threading.Thread(target=self._watch, daemon=True).start()
      code = self._until_the_end(link)
      self._kill()
      link.send(ended=code)
      if hub is not None:
        hub.wait_for_ends(_END_SECONDS)
      return code
    finally:
      self._kill()
      link.close()
      if hub is not None:
        hub.close()

  def _wait_for_all(self, seconds: float, hub: '_Hub | None') -> None:
    kind, what = self._next(seconds)
    if kind == 'ready':
      return
    if kind == 'refused':
      if hub is not None:
        hub.tell_refusal(_REFUSAL_SECONDS)
      raise errors.UserError(what)
    if kind == 'gone':
      raise errors.UserError(
          f'{_say(self._hosts, what)} before the run began; run the same '
          'command on every host again')
    missing = hub.missing() if hub else []
    names = ', '.join(self._hosts.name_of(one) for one in missing)
    raise errors.UserError(
        f'after {seconds:.0f} s of waiting, {names or "not all processes"} of '
        f'{self._hosts.num_processes} (from {self._hosts.source}) '
        'had not come; run the same command on every host')

  def _next(self, seconds: float) -> Event:
    try:
      return self._events.get(timeout=max(seconds, 0.0))
    except queue.Empty:
      return 'late', None

  def _watch(self) -> None:
    self._events.put(('child', self._child.wait()))

  def _until_the_end(self, link: '_Link') -> int:
    while True:
      kind, what = self._next(3600.0)
      if kind == 'gone':
        self._gone.append(what)
        return self._after_a_loss()
      if kind == 'child':
        return self._after_the_child(what, link)

  def _after_the_child(self, code: int, link: '_Link') -> int:
    link.send(ended=code)
    if code in (0, _EXIT_PREEMPTED, 2):
      return code
    # Did it end because of another? Theirs comes first, or within moments.
    self._gather_news(_NEWS_SECONDS)
    if _first_cause(self._gone) is None or _is_cause(code):
      print(f'walt: {self._hosts.name_of(self._hosts.process_id)}, this one, '
            f'{_how(code)}', file=sys.stderr, flush=True)
      return EXIT_HOST_LOST if code < 0 else code
    return self._name_the_lost()

  def _after_a_loss(self) -> int:
    """Gives the child a moment to end by itself, with an error of its own."""
    deadline = time.monotonic() + _NEWS_SECONDS
    while time.monotonic() < deadline:
      kind, what = self._next(deadline - time.monotonic())
      if kind == 'child':
        if what in (0, 2, _EXIT_PREEMPTED):
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
    print(f'walt: {_say(self._hosts, lost)}; this host stops too. Run the same '
          f'command on every host {self._again}.', file=sys.stderr, flush=True)
    return EXIT_HOST_LOST

  def _pass_on(self, number, frame) -> None:
    """The child saves and stops; a second signal ends it at once."""
    del number, frame
    self._signals += 1
    if self._child is not None and self._child.poll() is None:
      self._child.send_signal(
          signal.SIGTERM if self._signals == 1 else signal.SIGKILL)

  def _kill(self) -> None:
    if self._child is not None and self._child.poll() is None:
      self._child.kill()
      self._child.wait()


class _Link:
  """The line to the hub."""

  def __init__(self, hosts, seconds: float, events: 'queue.Queue[Event]'):
    self._hosts = hosts
    self._seconds = seconds
    self._events = events
    self._socket: socket.socket | None = None
    self._lock = threading.Lock()
    self._closing = False

  def connect(self, seconds: float, hub: '_Hub | None',
              alike: list[str]) -> None:
    address, port = self._hosts.coordinator.rsplit(':', 1)
    target = ('localhost' if hub else address, int(port) + 1)
    deadline = time.monotonic() + seconds
    while True:
      try:
        self._socket = socket.create_connection(target, timeout=5.0)
        break
      except OSError as e:
        if time.monotonic() > deadline:
          raise errors.UserError(
              f'{self._hosts.name_of(0)} cannot be reached at {target[0]}:'
              f'{target[1]} within {seconds:.0f} s: {e}; is it running, and '
              'is the port open?') from e
        time.sleep(0.2)
    self._socket.settimeout(self._seconds)
    self.send(hello=self._hosts.process_id, host=socket.gethostname(),
              of=self._hosts.num_processes, alike=alike)
    threading.Thread(target=self._listen, daemon=True).start()
    threading.Thread(target=self._beat, daemon=True).start()

  def send(self, **message: Any) -> None:
    with self._lock:
      try:
        self._socket.sendall(json.dumps(message).encode() + b'\n')
      except OSError:
        pass  # The listener notices.

  def close(self) -> None:
    self._closing = True
    if self._socket is not None:
      self._socket.close()

  def _beat(self) -> None:
    while not self._closing:
      time.sleep(_BEAT_SECONDS)
      self.send(beat=True)

  def _listen(self) -> None:
    why = 'has closed the connection'
    try:
      for line in self._socket.makefile():
        message = json.loads(line)
        if 'ready' in message:
          self._events.put(('ready', None))
        elif 'refused' in message:
          self._events.put(('refused', message['refused']))
        elif 'gone' in message:
          self._events.put(('gone', message['gone']))
    except TimeoutError:
      why = f'has been silent for {self._seconds:.0f} s'
    except (OSError, ValueError):
      pass
    if not self._closing:
      self._events.put(('gone', dict(process=0, host='', why=why,
                                     is_cause=True)))


class _Hub(threading.Thread):
  """Knows who is there; tells everybody who is not."""

  def __init__(self, hosts: hosts_lib.Hosts, seconds: float,
               alike: list[str]):
    super().__init__(daemon=True)
    self._hosts = hosts
    self._seconds = seconds
    self._alike = alike
    self._refused, self._told = '', set[int]()
    self._lock = threading.Lock()
    self._lines: dict[int, socket.socket] = {}
    self._ended: dict[int, int] = {}
    self._all_ended = threading.Event()
    self._all_told = threading.Event()
    self._closing = False
    port = int(hosts.coordinator.rsplit(':', 1)[1]) + 1
    try:
      self._server = socket.create_server(('', port), reuse_port=False)
    except OSError as e:
      raise errors.UserError(
          f'port {port}, the one after the coordinator\'s '
          f'({hosts.coordinator}), cannot be opened: {e}; choose another '
          'coordinator port') from e

  def run(self) -> None:
    threading.Thread(target=self._beat, daemon=True).start()
    while not self._closing:
      try:
        line, _ = self._server.accept()
      except OSError:
        return
      threading.Thread(target=self._serve, args=(line,), daemon=True).start()

  def missing(self) -> list[int]:
    """Processes that have not said hello."""
    with self._lock:
      return [one for one in range(self._hosts.num_processes)
              if one not in self._lines]

  def tell_refusal(self, seconds: float) -> None:
    """Waits until every process has been told that nobody starts."""
    self._all_told.wait(seconds)

  def wait_for_ends(self, seconds: float) -> None:
    """Waits until every process has ended or is lost."""
    self._all_ended.wait(seconds)

  def close(self) -> None:
    self._closing = True
    self._server.close()
    with self._lock:
      for line in self._lines.values():
        line.close()

  def _beat(self) -> None:
    while not self._closing:
      time.sleep(_BEAT_SECONDS)
      self._tell(beat=True)

  def _serve(self, line: socket.socket) -> None:
    line.settimeout(self._seconds)
    process, host, why = None, '', 'has closed the connection'
    try:
      for text in line.makefile():
        message = json.loads(text)
        if 'hello' in message:
          refusal = self._refused or self._refusal(message)
          if refusal:
            self._refuse(message['hello'], line, refusal)
            return
          process, host = int(message['hello']), message['host']
          self._welcome(process, line)
        elif 'ended' in message:
          self._note_end(process, host, int(message['ended']))
    except TimeoutError:
      why = f'has been silent for {self._seconds:.0f} s'
    except (OSError, ValueError):
      pass
    if process is not None and process not in self._ended:
      self._note_end(process, host, None, why)

  def _refusal(self, hello: dict[str, Any]) -> str:
    """Why a process may not take part; '' where it may."""
    process = hello['hello']
    name = f'process {process} on {hello["host"]}'
    if hello['of'] != self._hosts.num_processes:
      return (f'{name} is one of {hello["of"]}, and process 0 one of '
              f'{self._hosts.num_processes}; tell all of them the same number')
    if process in self._lines:
      return (f'two processes are process {process} of {hello["of"]}, the '
              f'second on {hello["host"]}; number them from 0')
    for own, other in itertools.zip_longest(
        self._alike, hello['alike'], fillvalue='nothing'):
      if own != other:
        return (f'{name} has {other!r} where process 0 has {own!r}; run the '
                'same command, of one version, on every host')
    return ''

  def _refuse(self, process: int, line: socket.socket, why: str) -> None:
    """Tells a process, and where nothing runs yet the others: nobody starts."""
    # First: the process of this hub ends as soon as it is told.
    with contextlib.suppress(OSError):
      line.sendall(json.dumps(dict(refused=why)).encode() + b'\n')
    if self.missing():
      self._refused = why  # Also for those who come later.
      self._tell(refused=why)
      with self._lock:
        self._told.update(self._lines, [process])
        if len(self._told) >= self._hosts.num_processes:
          self._all_told.set()

  def _welcome(self, process: int, line: socket.socket) -> None:
    with self._lock:
      self._lines[process] = line
      everybody = len(self._lines) == self._hosts.num_processes
    if everybody:
      self._tell(ready=True)

  def _note_end(self, process: int, host: str, code: int | None,
                why: str = '') -> None:
    with self._lock:
      if self._closing:
        return
      known = process in self._ended
      self._ended.setdefault(process, -1 if code is None else code)
      everybody = len(self._ended) == self._hosts.num_processes
    if not known and code not in (0, _EXIT_PREEMPTED, EXIT_HOST_LOST):
      self._tell(but=process, gone=dict(
          process=process, host=host, why=why or _how(code),
          is_cause=code is None or _is_cause(code)))
    if everybody:
      self._all_ended.set()

  def _tell(self, but: int | None = None, **message: Any) -> None:
    text = json.dumps(message).encode() + b'\n'
    with self._lock:
      for process, line in self._lines.items():
        if process != but and process not in self._ended:
          try:
            line.sendall(text)
          except OSError:
            pass  # Its own thread notices.


def _is_cause(code: int) -> bool:
  """Whether a child ended by itself: killed, or by a wrong input.

  A child that loses another ends by an exception (1) or by abort.
  """
  return code == 2 or (code < 0 and -code != signal.SIGABRT)


def _first_cause(gone: list[dict[str, Any]]) -> dict[str, Any] | None:
  return next((one for one in gone if one['is_cause']), None)


def _how(code: int) -> str:
  if code < 0:
    return f'was killed by {signal.Signals(-code).name}'
  return f'has ended with exit code {code}'


def _say(hosts: hosts_lib.Hosts, gone: dict[str, Any]) -> str:
  name = hosts.name_of(gone['process'])
  if gone['host'] and not hosts.names:
    name = f'{name} on {gone["host"]}'
  return f'{name} {gone["why"]}'
