"""The processes of a run, joined: start, barriers and end with time limits."""
import contextlib
import ctypes
import signal
import sys

import jax

# The public interface has no barrier with a time limit.
from jax._src import distributed as jax_distributed
from jax.experimental import multihost_utils

from walt_jax.core import errors
from walt_jax.parallel import hosts as hosts_lib

# JAX ends survivors of a lost process with a fatal error of its own, which
# names nobody: our supervisors (`walt_jax.parallel.supervisor`) come before it.
_HEARTBEAT_MARGIN = 2.0
_PR_SET_PDEATHSIG = 1
# Clients that were left: taking them down would wait for the others.
_LEFT: list[object] = []


@contextlib.contextmanager
def joined(hosts: hosts_lib.Hosts | None, *, seconds: float = 60.0,
           start_seconds: float = 300.0):
  """Joins the processes of a run; leaves them in order.

  Args:
    hosts: The run; None: this process is the only one, and nothing is done.
    seconds: Silence after which a process counts as lost.
    start_seconds: Time to wait for the others.

  Raises:
    UserError: If the others do not come.
  """
  if hosts is None:
    yield
    return
  try:
    jax.distributed.initialize(
        hosts.coordinator, hosts.num_processes, hosts.process_id,
        initialization_timeout=int(start_seconds),
        heartbeat_timeout_seconds=int(_HEARTBEAT_MARGIN * seconds),
        shutdown_timeout_seconds=int(_HEARTBEAT_MARGIN * seconds),
        cluster_detection_method='deactivate')
  except jax.errors.JaxRuntimeError as e:
    raise errors.UserError(
        f'process {hosts.process_id} of {hosts.num_processes} could not join '
        f'the coordinator {hosts.coordinator} (from {hosts.source}) within '
        f'{start_seconds:.0f} s: {e}') from e
  try:
    yield
  except Exception:
    _leave_at_once()
    raise
  except SystemExit:  # Stopped in order, as the others are.
    jax.distributed.shutdown()
    raise
  jax.distributed.shutdown()


def _leave_at_once() -> None:
  """Ends without meeting the others, who may be in no state to.

  JAX would wait for them when the interpreter ends. Our supervisor tells them.
  """
  state = jax_distributed.global_state
  _LEFT.extend((state.client, state.service, state.preemption_sync_manager))
  state.client = state.service = state.preemption_sync_manager = None


def barrier(name: str, seconds: float = 600.0) -> None:
  """Waits until every process is here; a single process continues at once.

  Args:
    name: Name of the barrier, unique within a run.
    seconds: Time after which a process gives up waiting.

  Raises:
    TimeoutError: Says which barrier it was.
  """
  if jax.process_count() == 1:
    return
  client = jax_distributed.global_state.client
  try:
    client.wait_at_barrier(f'walt_{name}', int(1000 * seconds))
  except jax.errors.JaxRuntimeError as e:
    raise TimeoutError(
        f'process {jax.process_index()} of {jax.process_count()} waited '
        f'{seconds:.0f} s at {name!r} for the others: {e}') from e


def stop_together(call: int) -> bool:
  """Whether a signal to any process asks all of them to stop here.

  Args:
    call: Counts the calls, which every process makes alike.
  """
  return multihost_utils.reached_preemption_sync_point(call)


def die_with_parent() -> None:
  """Asks Linux to end this process when its supervisor is killed."""
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
