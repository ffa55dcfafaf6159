"""Ports for tests of several processes."""
import socket


def free_port() -> int:
  """A port whose successor is free too."""
  while True:
    with socket.create_server(('', 0)) as one:
      port = one.getsockname()[1]
      try:
        socket.create_server(('', port + 1)).close()
      except OSError:
        continue
      return port
