"""`python -m walt_jax.quickstart` is the tutorial run."""
import sys

from walt_jax.commands.flags import quickstart
from walt_jax.core import paths
from walt_jax.quickstart import tutorial


def main() -> int:
  """Runs the tutorial as the flags say; returns its exit code."""
  args = quickstart.parse(sys.argv[1:], tutorial.__doc__)
  name = 'quickstart_long' if args.long else 'quickstart'
  return tutorial.run(
      tutorial.LONG if args.long else tutorial.SHORT,
      args.out or paths.path('runs') / name)


if __name__ == '__main__':
  sys.exit(main())
