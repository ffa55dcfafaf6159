"""`python -m walt_jax.quickstart` is the tutorial run."""
import pathlib
import sys

from walt_jax.commands import cli
from walt_jax.commands.flags import quickstart
from walt_jax.core import errors
from walt_jax.quickstart import tutorial


def main() -> int:
  """Runs the tutorial as the flags say; returns its exit code."""
  try:
    args = quickstart.parse(sys.argv[1:], tutorial.__doc__)
  except errors.UserError as error:
    print(f'quickstart: error: {error}', file=sys.stderr)
    return cli.EXIT_USER_ERROR
  name = 'quickstart_long' if args.long else 'quickstart'
  return tutorial.run(
      tutorial.LONG if args.long else tutorial.SHORT,
      args.out or pathlib.Path('runs') / name)


if __name__ == '__main__':
  sys.exit(main())
