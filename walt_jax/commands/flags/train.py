"""Flags of `walt train`."""
from typing import Any

from walt_jax.commands.flags import code
from walt_jax.commands.flags import config
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import values


def add(commands: Any) -> None:
  """Adds `walt train`."""
  parser = commands.add_parser(
      'train', help='train a stage, or resume its training',
      description='Trains the stage that a config describes. A work directory '
      'with a checkpoint is resumed.')
  config.add(parser, required=False)
  parser.add_argument('--workdir', type=locations.written, metavar='DIR',
                      help='config.json, metrics.jsonl, checkpoints/')
  parser.add_argument('--replay', type=locations.read, metavar='BUNDLE',
                      help='only take the failed step again that training '
                      'kept in WORKDIR/replay/; --config and --workdir are '
                      'then those of the run')
  parser.add_argument('--max_failures', type=values.positive_int, default=10,
                      metavar='N', help='stop after N steps in a row whose '
                      'loss or gradients were not finite (10)')
  parser.add_argument('--profile', type=values.profile,
                      metavar='FIRST:LAST[@PROCESS]',
                      help='write a profiler trace of these steps of one '
                      'process (0) to WORKDIR/profile/; of a run under way: '
                      'write the same, or nothing, to WORKDIR/profile_now')
  code.add(parser)
  hosts = parser.add_argument_group(
      'several hosts', 'The same command runs on each. Where the environment '
      'tells (GKE, XPK, SLURM, WALT_COORDINATOR; docs/scaling.md), no flag is '
      'needed.')
  hosts.add_argument('--coordinator', metavar='HOST:PORT',
                     help='process 0; the port after it is used too')
  hosts.add_argument('--process', type=values.process, metavar='I/N',
                     help='this process of N, from 0')
  hosts.add_argument('--host_timeout', type=values.positive, default=60.0,
                     metavar='SECONDS', help='silence after which a host '
                     'counts as lost (60)')
  hosts.add_argument('--start_timeout', type=values.positive, default=300.0,
                     metavar='SECONDS', help='how long to wait for all hosts '
                     'to come (300)')
  parser.set_defaults(module='walt_jax.commands.supervise')
