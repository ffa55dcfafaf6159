"""A parent's line to the hub of its run."""
from collections.abc import Sequence
import queue
import socket
import threading
import time
from typing import Any

from walt_jax.core import errors
from walt_jax.core import waiting
from walt_jax.parallel import hosts as hosts_lib
from walt_jax.parallel import hub as hub_lib
from walt_jax.parallel import lines as lines_lib
from walt_jax.parallel import secret as secret_lib

# What the hub says: ('ready', None), ('refused', why), ('gone', who and why),
# ('stop', 'now' or 'save').
Event = tuple[str, Any]
_SAID = ('ready', 'refused', 'gone', 'stop')
_RETRY_SECONDS = 0.2
_ANSWER_SECONDS = 10.0


class Link:
  """The line to the hub."""

  def __init__(self, hosts: hosts_lib.Hosts, seconds: float,
               events: 'queue.SimpleQueue[Event]',
               secret: secret_lib.Secret):
    """Connects to nothing yet.

    Args:
      hosts: The run.
      seconds: Silence after which the hub counts as lost.
      events: Gets what the hub says.
      secret: The run's.
    """
    self._hosts, self._seconds, self._events = hosts, seconds, events
    self._secret = secret
    self._lines: lines_lib.Lines | None = None
    self._closing = False

  def connect(self, seconds: float, alike: Sequence[str]) -> None:
    """Comes to the hub, waiting for it.

    Args:
      seconds: How long to wait.
      alike: Words that must be the same on every host.

    Raises:
      UserError: There is none, or it does not know the secret.
    """
    address, port = self._hosts.coordinator.rsplit(':', 1)
    target = ('localhost' if self._hosts.process_id == 0 else address,
              int(port) + 1)
    place = f'{target[0]}:{target[1]}'
    deadline = time.monotonic() + seconds
    why = self._come(target, alike)
    with waiting.told(lambda: f'for {self._hosts.name_of(0)} at {place}'):
      while why:
        if time.monotonic() > deadline:
          raise errors.UserError(
              f'{self._hosts.name_of(0)} cannot be reached at {place} within '
              f'{seconds:.0f} s: {why}')
        time.sleep(_RETRY_SECONDS)
        why = self._come(target, alike)
    threading.Thread(target=self._listen, daemon=True).start()
    threading.Thread(target=self._beat, daemon=True).start()

  def _come(self, target: tuple[str, int], alike: Sequence[str]) -> str:
    """Says hello; returns why it cannot, '' where it has."""
    secret = self._secret.read()  # Anew: process 0 may have made another.
    if secret is None:
      return (f'{str(self._secret.file)!r} is not there, in which it shares '
              'the secret of the run; is it running, and is this folder the '
              f'same there? If not, set {secret_lib.TOKEN} on every host')
    try:
      lines = lines_lib.Lines(
          socket.create_connection(target, timeout=5.0))
    except OSError as e:
      return f'{e}; is it running, and is the port open?'
    try:
      ours = secret_lib.nonce()
      lines.send(dict(nonce=ours))
      answer = lines.next(_ANSWER_SECONDS)
      if answer is None or not secret_lib.proves(
          secret, answer.get('proof'), 'hub', ours, answer.get('nonce')):
        lines.close()
        return ('what answers there does not know the secret of this run; '
                'another program may use the port, or '
                f'{secret_lib.TOKEN} is not the same on every host')
      hello = dict(hello=self._hosts.process_id, host=socket.gethostname(),
                   of=self._hosts.num_processes, alike=list(alike))
      lines.send(hello | dict(proof=secret_lib.proof(
          secret, 'process', ours, answer.get('nonce'), hello)))
    except (OSError, lines_lib.BadLineError) as e:
      lines.close()
      return f'what answers there is no process of this run ({e})'
    self._lines = lines
    return ''

  def send(self, **message: Any) -> None:
    """Tells the hub; where it has gone, the listener notices."""
    if self._lines is not None:
      self._lines.send(message)

  def close(self) -> None:
    self._closing = True
    if self._lines is not None:
      self._lines.close()

  def _beat(self) -> None:
    while not self._closing:
      time.sleep(hub_lib.BEAT_SECONDS)
      self.send(beat=True)

  def _listen(self) -> None:
    assert self._lines is not None
    why = 'has closed the connection'
    try:
      for message in self._lines.messages(self._seconds):
        for name in _SAID:
          if name in message:
            self._events.put((name, message[name]))
    except TimeoutError:
      why = f'has been silent for {self._seconds:.0f} s'
    except (OSError, lines_lib.BadLineError):
      pass
    if not self._closing:
      self._events.put(('gone', dict(process=0, host='', why=why,
                                     is_cause=True)))
