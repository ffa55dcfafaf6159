"""A command in this process, joined with those of the other hosts."""
import argparse
import importlib

from walt_jax.commands.flags import outputs
from walt_jax.parallel import distributed
from walt_jax.parallel import hosts as hosts_lib
from walt_jax.parallel import multihost


def run(args: argparse.Namespace, hosts: hosts_lib.Hosts | None) -> None:
  """Runs the command that `args.work` names.

  Args:
    args: Flags of the command.
    hosts: The processes that run it, or None if this is the only one.
  """
  work = importlib.import_module(args.work)
  with distributed.joined(hosts, seconds=args.host_timeout,
                          start_seconds=args.start_timeout):
    if multihost.is_main():
      outputs.check(args)
    work.run(args)
