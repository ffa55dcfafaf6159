"""`python -m walt_jax` is the `walt` command."""
import os
import signal
import sys

from walt_jax.core import supervised


def main() -> int:
  """Runs the command; until it can do so itself, answers Ctrl-C for it."""
  supervised.begin()
  for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):
    if signal.getsignal(number) is not signal.SIG_IGN:
      signal.signal(number, lambda *_, code=code: _leave(code))
  from walt_jax.commands import cli
  return cli.main()


def _leave(code: int) -> None:
  os.write(2, b'walt: interrupted\n' if code == 130 else
           b'walt: stopped by SIGTERM\n')
  os._exit(code)


if __name__ == '__main__':
  sys.exit(main())
