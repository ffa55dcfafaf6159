"""The meeting point of the parents of a run: who is there, who is not.

The parent of process 0 has it, on the port after the coordinator's. It answers
whoever knows the run's secret (`walt_jax.parallel.secret`): others can neither
read nor say anything, and cannot hold more than a few connections.
"""
from collections.abc import Sequence
import contextlib
import itertools
import signal
import socket
import threading
import time

from walt_jax.core import errors
from walt_jax.core import exit_codes
from walt_jax.parallel import hosts as hosts_lib
from walt_jax.parallel import lines as lines_lib
from walt_jax.parallel import secret as secret_lib

BEAT_SECONDS = 1.0
# For who is new to prove that it knows the secret.
_PROOF_SECONDS = 10.0
# Connections at once, beside those of the run's processes, that have not.
_MOST_STRANGERS = 64
_MOST_WORDS = 1000
_LOOPBACK = ('localhost', '127.0.0.1')


class Hub(threading.Thread):
  """Knows who is there; tells everybody who is not."""

  def __init__(self, hosts: hosts_lib.Hosts, seconds: float,
               alike: Sequence[str], secret: bytes):
    """Opens the port.

    Args:
      hosts: The run.
      seconds: Silence after which a process counts as lost.
      alike: Words that must be the same on every host.
      secret: The run's.

    Raises:
      UserError: If the port cannot be opened.
    """
    super().__init__(daemon=True)
    self._hosts, self._seconds, self._alike = hosts, seconds, list(alike)
    self._secret = secret
    self._refused, self._told = '', set[int]()
    self._lock = threading.Lock()
    self._lines: dict[int, lines_lib.Lines] = {}
    self._ended: dict[int, int] = {}
    self._holding = self._stopping = False
    self._strangers = 0
    self._all_ended = threading.Event()
    self._all_told = threading.Event()
    self._closing = False
    host, port = hosts.coordinator.rsplit(':', 1)
    try:
      self._server = socket.create_server(
          ('127.0.0.1' if host in _LOOPBACK else '', int(port) + 1),
          reuse_port=False)
    except OSError as e:
      raise errors.UserError(
          f'port {int(port) + 1}, the one after the coordinator\'s '
          f'({hosts.coordinator}), cannot be opened: {e}; choose another '
          'coordinator port') from e

  def run(self) -> None:
    threading.Thread(target=self._beat, daemon=True).start()
    while not self._closing:
      try:
        connection, _ = self._server.accept()
      except OSError:
        return
      with self._lock:
        is_welcome = self._strangers < _MOST_STRANGERS
        self._strangers += is_welcome
      if is_welcome:
        threading.Thread(
            target=self._serve, args=(connection,), daemon=True).start()
      else:
        connection.close()

  def missing(self) -> list[int]:
    """Processes that have not said hello."""
    with self._lock:
      return [one for one in range(self._hosts.num_processes)
              if one not in self._lines]

  def refuse_all(self, why: str) -> None:
    """Tells all who have come that nobody starts."""
    self._refused = why  # Also for those who come later.
    self._tell(refused=why)

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
      time.sleep(BEAT_SECONDS)
      self._tell(beat=True)

  def _serve(self, connection: socket.socket) -> None:
    """Hears one connection until it ends."""
    line = lines_lib.Lines(connection)
    try:
      hello = self._hello(line)
    except (OSError, lines_lib.BadLineError):
      hello = None
    with self._lock:
      self._strangers -= 1
    if hello is None:
      line.close()
      return
    process = hello['hello']
    refusal = self._refused or self._refusal(hello)
    if refusal:
      self._refuse(process, line, refusal)
      return
    self._welcome(process, line)
    host, why = lines_lib.text(hello, 'host', 100), 'has closed the connection'
    try:
      for message in line.messages(self._seconds):
        self._hear(process, host, message)
    except TimeoutError:
      why = f'has been silent for {self._seconds:.0f} s'
    except lines_lib.BadLineError as e:
      why = f'has said what it should not: {e}'
    except OSError:
      pass
    if process not in self._ended:
      self._note_end(process, host, None, why)

  def _hello(self, line: lines_lib.Lines) -> lines_lib.Message | None:
    """The first words of one who knows the secret; None for all others."""
    deadline = time.monotonic() + _PROOF_SECONDS
    first = line.next(_PROOF_SECONDS)
    if first is None:
      return None
    theirs, ours = first.get('nonce'), secret_lib.nonce()
    line.send(dict(nonce=ours, proof=secret_lib.proof(
        self._secret, 'hub', theirs, ours)))
    hello = line.next(deadline - time.monotonic())
    if hello is None or not secret_lib.proves(
        self._secret, hello.pop('proof', None), 'process', theirs, ours,
        hello):
      return None
    most = self._hosts.num_processes
    lines_lib.number(hello, 'hello', 0, max(most, 1 << 20))
    lines_lib.number(hello, 'of', 1, 1 << 20)
    alike = hello.get('alike')
    if not isinstance(alike, list) or len(alike) > _MOST_WORDS or not all(
        isinstance(word, str) for word in alike):
      return None
    return hello

  def _hear(self, process: int, host: str, message: lines_lib.Message) -> None:
    if 'ended' in message:
      self._note_end(
          process, host, lines_lib.number(message, 'ended', -255, 255),
          lines_lib.text(message, 'why', 200))
    elif 'holds' in message:
      self._holding = True
    elif 'stopping' in message:
      self._stop()

  def _stop(self) -> None:
    """Tells all to stop: at once, unless there is something to save."""
    with self._lock:
      known, self._stopping = self._stopping, True
    if not known:
      self._tell(stop='save' if self._holding else 'now')

  def _refusal(self, hello: lines_lib.Message) -> str:
    """Why a process may not take part; '' where it may."""
    process = hello['hello']
    name = f'process {process} on {lines_lib.text(hello, "host", 100)}'
    if hello['of'] != self._hosts.num_processes:
      return (f'{name} is one of {hello["of"]}, and process 0 one of '
              f'{self._hosts.num_processes}; tell all of them the same number')
    if process >= self._hosts.num_processes:
      return f'{name} is none of {self._hosts.num_processes}, from 0'
    if process in self._lines:
      return (f'two processes are process {process} of {hello["of"]}, the '
              f'second on {lines_lib.text(hello, "host", 100)}; number them '
              'from 0')
    for own, other in itertools.zip_longest(
        self._alike, hello['alike'], fillvalue='nothing'):
      if own != other:
        return (f'{name} has {other!r} where process 0 has {own!r}; run the '
                'same command, of one version, on every host')
    return ''

  def _refuse(self, process: int, line: lines_lib.Lines, why: str) -> None:
    """Tells a process, and where nothing runs yet the others: nobody starts."""
    # First: the process of this hub ends as soon as it is told.
    line.send(dict(refused=why))
    if self.missing():
      self.refuse_all(why)
      with self._lock:
        self._told.update(self._lines, [process])
        if len(self._told) >= self._hosts.num_processes:
          self._all_told.set()

  def _welcome(self, process: int, line: lines_lib.Lines) -> None:
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
    if not known and code in (exit_codes.STOPPED, exit_codes.INTERRUPTED):
      # A training's processes stop together, by themselves.
      if not self._holding:
        self._stop()
    elif not known and code not in (exit_codes.DONE, exit_codes.HOST_LOST):
      self._tell(but=process, gone=dict(
          process=process, host=host, why=why or how(code),
          is_cause=code is None or is_cause(code)))
    if everybody:
      self._all_ended.set()

  def _tell(self, but: int | None = None, **message) -> None:
    with self._lock:
      told = [line for process, line in self._lines.items()
              if process != but and process not in self._ended]
    for line in told:  # Who does not take it is noticed by its own thread.
      line.send(message)


def is_cause(code: int) -> bool:
  """Whether a child ended by itself: killed, or by a wrong input.

  A child that loses another ends by an exception (1) or by abort.
  """
  return code == exit_codes.USER_ERROR or (
      code < 0 and -code != signal.SIGABRT)


def how(code: int) -> str:
  """How a child ended, in words."""
  if code < 0:
    with contextlib.suppress(ValueError):
      return f'was killed by {signal.Signals(-code).name}'
  return f'has ended with exit code {code}'
