"""Messages of JSON, one a line, over a connection whose other end may lie."""
from collections.abc import Iterator
import json
import socket
import threading
import time
from typing import Any

# More than the longest command line that systems take is not needed.
MOST_BYTES = 1 << 18

Message = dict[str, Any]


class BadLineError(ValueError):
  """What came is no message."""


class Lines:
  """A connection. Sending may be done by several threads, reading by one."""

  def __init__(self, connection: socket.socket):
    self._connection = connection
    self._rest = b''
    self._lock = threading.Lock()

  def send(self, message: Message) -> bool:
    """Sends a message; returns whether the connection took it."""
    with self._lock:
      try:
        self._connection.sendall(json.dumps(message).encode() + b'\n')
        return True
      except OSError:
        return False

  def next(self, seconds: float) -> Message | None:
    """The next message; None at the end of the connection.

    Args:
      seconds: Time for all of it.

    Raises:
      TimeoutError: It did not come.
      BadLineError: It is too long, or no JSON object.
      OSError: The connection broke.
    """
    deadline = time.monotonic() + seconds
    while b'\n' not in self._rest:
      left = deadline - time.monotonic()
      if left <= 0:
        raise TimeoutError
      self._connection.settimeout(left)
      part = self._connection.recv(1 << 16)
      if not part:
        return None
      self._rest += part
      if len(self._rest) > MOST_BYTES:
        raise BadLineError('a line is too long')
    line, _, self._rest = self._rest.partition(b'\n')
    try:
      message = json.loads(line)
    except (ValueError, RecursionError) as e:
      raise BadLineError('a line is not JSON') from e
    if not isinstance(message, dict):
      raise BadLineError('a line is no JSON object')
    return message

  def messages(self, seconds: float) -> Iterator[Message]:
    """All that come, each within so many seconds; raises as `next` does."""
    while (message := self.next(seconds)) is not None:
      yield message

  def close(self) -> None:
    try:
      # Wakes the thread that reads.
      self._connection.shutdown(socket.SHUT_RDWR)
    except OSError:
      pass
    self._connection.close()


def number(message: Message, name: str, least: int, most: int) -> int:
  """A whole number of a message.

  Raises:
    BadLineError: It is none, or not in its range.
  """
  value = message.get(name)
  if type(value) is not int or not least <= value <= most:
    raise BadLineError(f'{name} is {str(value)[:50]!r}')
  return value


def text(message: Message, name: str, most: int) -> str:
  """A text of a message, of one line, cut to so many characters."""
  value = message.get(name, '')
  if not isinstance(value, str):
    raise BadLineError(f'{name} is no text')
  return ''.join(c if c.isprintable() else '?' for c in value[:most])
