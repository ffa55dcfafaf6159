"""The processes of a run, joined: start, barriers and end with time limits."""
import contextlib
import ctypes
import itertools
import re

import jax

# The public interface has no barrier with a time limit.
from jax._src import distributed as jax_distributed
from jax.experimental import multihost_utils

from walt_jax.core import errors
from walt_jax.core import waiting
from walt_jax.parallel import hosts as hosts_lib

# JAX ends survivors of a lost process with a fatal error of its own, which
# names nobody: our supervisors (`walt_jax.parallel.supervisor`) come before it.
_HEARTBEAT_MARGIN = 2.0
# How long a process waits for what the others do before they all meet: their
# shares of samples, or what process 0 writes. Who is lost is noticed by the
# supervisors much sooner; this ends the wait for one that hangs.
PATIENCE_SECONDS = 7200.0
# How much later another host may find what is wrong with the command. Less than
# the supervisors wait for an end that has a reason of its own.
_MISTAKE_SECONDS = 2.0
# A wait that is longer is told; shorter ones are in the order of things.
_SILENT_SECONDS = 30.0
_MEETINGS = itertools.count()


class LateError(TimeoutError):
  """Another process did not come to a barrier; says which."""
  exit_code = 1


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
    # JAX's own end waits `shutdown_timeout_seconds` for the slowest, which
    # may have a long result to write.
    meet('the end')
  except errors.UserError:
    # A mistake that every host makes ends all of them in order, each with its
    # line; JAX would abort those that end after process 0.
    try:
      barrier('a mistake of all', _MISTAKE_SECONDS)
    except LateError:
      _leave_at_once()
    else:
      jax.distributed.shutdown()
    raise
  except (Exception, KeyboardInterrupt):
    _leave_at_once()
    raise
  except SystemExit:  # Stopped in order, as the others are.
    jax.distributed.shutdown()
    raise
  jax.distributed.shutdown()


def is_joined() -> bool:
  """Whether this process is one of several; starts no device."""
  return jax_distributed.global_state.client is not None


def _leave_at_once() -> None:
  """Ends without meeting the others, who may be in no state to.

  JAX would wait for them when the interpreter ends. Our supervisor tells them.
  """
  state = jax_distributed.global_state
  for left in (state.client, state.service, state.preemption_sync_manager):
    # Never taken down, not even by the interpreter's end: that meets the
    # others, and aborts where process 0 is gone already.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(left))
  state.client = state.service = state.preemption_sync_manager = None


def barrier(name: str, seconds: float = 600.0) -> None:
  """Waits until every process is here; a single process continues at once.

  Args:
    name: Name of the barrier, unique within a run.
    seconds: Time after which a process gives up waiting.

  Raises:
    LateError: Says which barrier it was, and who is missing where JAX knows.
  """
  if jax.process_count() == 1:
    return
  client = jax_distributed.global_state.client
  try:
    with waiting.told(lambda: f'for the other processes at {name!r}',
                      seconds=_SILENT_SECONDS):
      client.wait_at_barrier(f'walt_{name}', int(1000 * seconds))
  except jax.errors.JaxRuntimeError as e:
    missing = sorted(set(map(int, re.findall(
        r'task:(\d+)', str(e).partition('timed out task names')[2]))))
    who = ', '.join(f'process {one}' for one in missing) or 'the others'
    raise LateError(
        f'process {jax.process_index()} of {jax.process_count()} waited '
        f'{seconds:.0f} s at {name!r} for {who}'
        f'{"" if missing else f": {e}"}') from e


def meet(name: str) -> None:
  """Waits until every process is here, for at most `PATIENCE_SECONDS`.

  Args:
    name: Where, for the message; all processes make the same calls.
  """
  barrier(f'{name} ({next(_MEETINGS)})', PATIENCE_SECONDS)


def first_says(name: str, value: bool, seconds: float = 600.0) -> bool:
  """What process 0 says; a single process believes itself.

  Args:
    name: Name of the question, unique within a run; all processes ask it.
    value: The answer, if this is process 0.
    seconds: Time after which a process gives up waiting.

  Raises:
    TimeoutError: Says which question it was.
  """
  if jax.process_count() == 1:
    return value
  client = jax_distributed.global_state.client
  key = f'walt_says/{name}'
  if jax.process_index() == 0:
    client.key_value_set(key, str(int(value)))
    return value
  try:
    return client.blocking_key_value_get(key, int(1000 * seconds)) == '1'
  except jax.errors.JaxRuntimeError as e:
    raise TimeoutError(
        f'process {jax.process_index()} of {jax.process_count()} waited '
        f'{seconds:.0f} s for what process 0 says of {name!r}: {e}') from e


def stop_together(call: int) -> bool:
  """Whether a signal to any process asks all of them to stop here.

  Args:
    call: Counts the calls, which every process makes alike.
  """
  return multihost_utils.reached_preemption_sync_point(call)

