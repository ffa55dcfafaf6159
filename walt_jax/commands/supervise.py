"""A command on one host or on several, which are supervised.

Whatever several hosts run together comes through here. The process that only
supervises imports no JAX: it starts seconds earlier and holds a tenth of the
memory for as long as the command takes.
"""
import argparse
import importlib
import os
import sys

import walt_jax
from walt_jax.commands.flags import hosts as hosts_flags
from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import supervised
from walt_jax.parallel import hosts as hosts_lib
from walt_jax.parallel import restarts
from walt_jax.parallel import supervisor

_JOINED = 'walt_jax.commands.joined'


def run(args: argparse.Namespace) -> None:
  """Entry point of every command with `flags.hosts`."""
  if args.command == 'train':
    _check_train(args)
  hosts = None
  if not _is_alone(args):
    hosts = hosts_lib.find(os.environ, coordinator=args.coordinator,
                           process=args.process)
  if not supervised.is_child() and (hosts or _restarts(args)):
    raise SystemExit(_supervised(args, hosts))
  importlib.import_module(_JOINED).run(args, hosts)


def _supervised(args: argparse.Namespace, hosts: hosts_lib.Hosts | None) -> int:
  """Runs the command in a child, again where that is wanted."""
  command = [sys.executable, '-m', 'walt_jax', *args.argv]
  if hosts is None:
    start = lambda: restarts.alone(command)
  else:
    start = lambda: supervisor.run(
        hosts, command, seconds=args.host_timeout,
        start_seconds=args.start_timeout, again=args.again,
        folder=_shared_folder(args), alike=(f'walt {walt_jax.__version__}',
               *hosts_flags.shared(args.argv)))
  if not _restarts(args):
    return start()
  return restarts.run(
      restarts.Policy(paths.path(args.workdir), args.restarts,
                      writes=hosts is None or hosts.process_id == 0), start)


def _shared_folder(args: argparse.Namespace) -> str | None:
  """A folder that all hosts of a command see: a work directory."""
  workdir = getattr(args, 'workdir', None)
  return workdir[0] if isinstance(workdir, list | tuple) else workdir


def _restarts(args: argparse.Namespace) -> int:
  """How often a training may be started again; replays are not."""
  if args.command != 'train' or args.replay:
    return 0
  return args.restarts


def _check_train(args: argparse.Namespace) -> None:
  if args.replay:
    return
  for name in ('config', 'workdir'):
    if not getattr(args, name):
      raise errors.UserError(
          f'walt train needs --{name} (or --replay BUNDLE)')
  if args.restart and args.restarts:
    raise errors.UserError(
        '--restart with --restarts: every start would begin again; give '
        '--restart alone, and --restarts when it has a checkpoint')


def _is_alone(args: argparse.Namespace) -> bool:
  """Whether a command runs on this host, whatever the environment says.

  Raises:
    UserError: It cannot run on several, and flags ask for that.
  """
  if args.command == 'train':
    return bool(args.replay)
  if args.command == 'data':
    if not args.latents and (args.coordinator or args.process):
      raise errors.UserError(
          '--coordinator and --process go with --latents: raw files are '
          'prepared by this machine, or by a runner of '
          '--beam_pipeline_options')
    # Before there was a coordinator: they know each other by their files.
    return not args.latents or (
        args.process is not None and args.coordinator is None)
  return False
