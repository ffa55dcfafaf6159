"""Flags of the commands that several hosts may run together."""
import argparse

from walt_jax.commands.flags import values

_SUPERVISE = 'walt_jax.commands.supervise'
# What each host is told for itself.
OWN = ('--coordinator', '--process', '--host_timeout', '--start_timeout')


def add(parser: argparse.ArgumentParser, *, work: str, does: str,
        again: str = 'again', process_help: str = '') -> None:
  """Adds the group; the command then goes through `commands/supervise.py`.

  Args:
    parser: The parser of the command.
    work: Module whose `run(args)` is the command in each process.
    does: What the hosts do, and which of them writes: sentences of the help.
    again: What running it again does after a host was lost: the end of 'Run
      the same command on every host ..'.
    process_help: What `--process` means besides.
  """
  group = parser.add_argument_group(
      'several hosts', f'The same command runs on each. {does} Where the '
      'environment tells (GKE, XPK, SLURM, WALT_COORDINATOR; '
      'docs/scaling.md), no flag is needed. A host that is lost is named, and '
      'the others end.')
  group.add_argument('--coordinator', metavar='HOST:PORT',
                     help='process 0; the port after it is used too')
  group.add_argument('--process', type=values.process, metavar='I/N',
                     help=f'this process of N, from 0{process_help}')
  group.add_argument('--host_timeout', type=values.positive, default=60.0,
                     metavar='SECONDS', help='silence after which a host '
                     'counts as lost (60)')
  group.add_argument('--start_timeout', type=values.positive, default=300.0,
                     metavar='SECONDS', help='how long to wait for all hosts '
                     'to come (300)')
  parser.set_defaults(module=_SUPERVISE, work=work, again=again)


def shared(argv: list[str]) -> list[str]:
  """The command line without what each host is told for itself."""
  kept, skip = [], False
  for word in argv:
    name, equals, _ = word.partition('=')
    if not skip and name not in OWN:
      kept.append(word)
    skip = not skip and name in OWN and not equals
  return kept
