"""`walt train` on one host or on several, which are supervised.

The process that only supervises imports no JAX: it starts seconds earlier and
holds a tenth of the memory for as long as the run takes.
"""
import argparse
import importlib
import os
import sys

from walt_jax.core import errors
from walt_jax.parallel import hosts as hosts_lib
from walt_jax.parallel import supervisor

_TRAINER = 'walt_jax.commands.train'


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt train --help`."""
  hosts = None
  if not args.replay:
    for name in ('config', 'workdir'):
      if not getattr(args, name):
        raise errors.UserError(
            f'walt train needs --{name} (or --replay BUNDLE)')
    hosts = hosts_lib.find(os.environ, coordinator=args.coordinator,
                           process=args.process)
  if hosts is not None and supervisor.CHILD not in os.environ:
    raise SystemExit(supervisor.run(
        hosts, [sys.executable, '-m', 'walt_jax', *args.argv],
        seconds=args.host_timeout, start_seconds=args.start_timeout))
  importlib.import_module(_TRAINER).run(args, hosts)
