"""Flags of `walt train`."""
from typing import Any

from walt_jax.commands.flags import code
from walt_jax.commands.flags import config
from walt_jax.commands.flags import hosts
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import values


def add(commands: Any) -> None:
  """Adds `walt train`."""
  parser = commands.add_parser(
      'train', help='train a stage, or resume its training',
      description='Trains the stage that a config describes. A work directory '
      'with a checkpoint is resumed.')
  config.add(parser, required=False)
  parser.add_argument('--workdir', type=locations.written_work, metavar='DIR',
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
  parser.add_argument('--allow_cpu', action='store_true',
                      help="train a config of the paper's size on a CPU, "
                      'where a step takes minutes')
  parser.add_argument('--restart', action='store_true',
                      help='begin again: what a run has left in WORKDIR '
                      '(checkpoints, metrics, events) is moved to '
                      'WORKDIR/before_restart_N/ first')
  parser.add_argument('--restarts', type=values.natural, default=0,
                      metavar='N', help='start again after a crash or a lost '
                      'host, later each time, until N restarts in a row '
                      'brought no new checkpoint: then exit code 2 (0: never)')
  code.add(parser)
  hosts.add(
      parser, work='walt_jax.commands.train',
      does='Each reads its own rows of a batch; process 0 writes the logs.',
      again='to resume from the last checkpoint')
