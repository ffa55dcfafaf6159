"""`python -m walt_jax.quickstart` is the tutorial run."""
from collections.abc import Sequence
import pathlib
import sys

from walt_jax.commands import cli
from walt_jax.commands.flags import quickstart
from walt_jax.core import interrupts
from walt_jax.quickstart import tutorial


def main() -> int:
  """Runs the tutorial as the process's flags say; returns its exit code."""
  return interrupts.own_process(
      lambda watch: cli.answered(lambda: run(sys.argv[1:]), watch))


def run(argv: Sequence[str]) -> int:
  """Runs the tutorial as flags say; returns its exit code."""
  args = quickstart.parse(argv, tutorial.__doc__)
  name = 'quickstart_long' if args.long else 'quickstart'
  return tutorial.run(
      tutorial.LONG if args.long else tutorial.SHORT,
      args.out or pathlib.Path('runs') / name)


if __name__ == '__main__':
  sys.exit(main())
