"""Which processes make up a run: from flags or from the environment."""
from collections.abc import Callable, Mapping
import dataclasses
import re
import urllib.error
import urllib.request

from walt_jax.core import errors

# Set by our launch scripts, or by hand; they go before a scheduler's own.
COORDINATOR = 'WALT_COORDINATOR'
NUM_PROCESSES = 'WALT_NUM_PROCESSES'
PROCESS_ID = 'WALT_PROCESS_ID'
# 'tpu': ask the metadata server of a TPU VM.
HOSTS = 'WALT_HOSTS'

DEFAULT_PORT = 8476
_LAST_PORT = 65_534  # The port after it is needed, too.
_METADATA = 'http://{host}/computeMetadata/v1/instance/attributes/{name}'
_METADATA_SECONDS = 10.0

Fetch = Callable[[str], str]


@dataclasses.dataclass(frozen=True)
class Hosts:
  """The processes of a run, one a host.

  Attributes:
    coordinator: 'HOST:PORT' of process 0. The port after it is used too.
    num_processes: Number of processes of the run.
    process_id: This one's, from 0.
    source: Where this was read, for messages.
    names: Hosts by process, where they are known.
  """
  coordinator: str
  num_processes: int
  process_id: int
  source: str
  names: tuple[str, ...] = ()

  def name_of(self, process_id: int) -> str:
    """'process 3 (host d)', as far as it is known."""
    if process_id < len(self.names):
      return f'process {process_id} ({self.names[process_id]})'
    return f'process {process_id}'


def find(environment: Mapping[str, str], *, coordinator: str | None = None,
         process: tuple[int, int] | None = None,
         fetch: Fetch | None = None) -> Hosts | None:
  """Reads the processes of this run.

  In this order: flags; WALT_COORDINATOR, WALT_NUM_PROCESSES, WALT_PROCESS_ID;
  WALT_HOSTS=tpu (the metadata server of a TPU VM); TPU_WORKER_HOSTNAMES and
  TPU_WORKER_ID (GKE, XPK), with MEGASCALE_* for several slices; a SLURM step;
  an indexed Kubernetes Job.

  Args:
    environment: Environment variables of the process.
    coordinator: The flag.
    process: The flag (process, number of processes).
    fetch: Reads a metadata address.

  Returns:
    None where this process is the only one.

  Raises:
    UserError: If what is there contradicts itself or is incomplete.
  """
  if (coordinator is None) != (process is None):
    raise errors.UserError(
        '--coordinator HOST:PORT and --process I/N go together')
  if coordinator is not None:
    found = Hosts(coordinator, process[1], process[0], 'flags')
  else:
    found = _from_environment(environment, fetch or _fetch(environment))
  return _checked(found) if found else None


def _from_environment(environment: Mapping[str, str], fetch: Fetch
                      ) -> Hosts | None:
  if COORDINATOR in environment:
    return _from_own(environment)
  if HOSTS in environment:
    if environment[HOSTS] != 'tpu':
      raise errors.UserError(
          f'{HOSTS} is {environment[HOSTS]!r}; set it to tpu, or unset it')
    return _from_metadata(fetch)
  if 'TPU_WORKER_HOSTNAMES' in environment:
    return _from_tpu(environment)
  if 'SLURM_PROCID' in environment and 'SLURM_STEP_NODELIST' in environment:
    return _from_slurm(environment)
  return None


def _from_own(environment: Mapping[str, str]) -> Hosts:
  # An indexed Kubernetes Job numbers its pods itself.
  own = environment.get(PROCESS_ID, environment.get('JOB_COMPLETION_INDEX'))
  if own is None or NUM_PROCESSES not in environment:
    raise errors.UserError(
        f'{COORDINATOR} is set; set {NUM_PROCESSES} and {PROCESS_ID} too')
  return Hosts(
      environment[COORDINATOR],
      _number(NUM_PROCESSES, environment[NUM_PROCESSES]),
      _number(PROCESS_ID, own), COORDINATOR)


def _from_tpu(environment: Mapping[str, str]) -> Hosts:
  names = tuple(name.strip() for name in
                environment['TPU_WORKER_HOSTNAMES'].split(','))
  slices = _number('MEGASCALE_NUM_SLICES',
                   environment.get('MEGASCALE_NUM_SLICES', '1'))
  if len(names) > 1 and 'TPU_WORKER_ID' not in environment:
    raise errors.UserError(
        f'TPU_WORKER_HOSTNAMES names {len(names)} hosts; set TPU_WORKER_ID to '
        "this one's place among them, from 0")
  own = _number('TPU_WORKER_ID', environment.get('TPU_WORKER_ID', '0'))
  if slices == 1:
    return Hosts(f'{names[0]}:{DEFAULT_PORT}', len(names), own,
                 'TPU_WORKER_HOSTNAMES', names)
  first = environment.get('MEGASCALE_COORDINATOR_ADDRESS', '')
  if not first or 'MEGASCALE_SLICE_ID' not in environment:
    raise errors.UserError(
        f'MEGASCALE_NUM_SLICES is {slices}; set MEGASCALE_COORDINATOR_ADDRESS '
        'and MEGASCALE_SLICE_ID too')
  number = _number('MEGASCALE_SLICE_ID', environment['MEGASCALE_SLICE_ID'])
  return Hosts(f'{first.split(":")[0]}:{DEFAULT_PORT}', slices * len(names),
               number * len(names) + own, 'MEGASCALE_COORDINATOR_ADDRESS')


def _from_metadata(fetch: Fetch) -> Hosts:
  # 'unknown:unknown:10.0.0.2,unknown:unknown:10.0.0.3' in the order of hosts.
  names = tuple(entry.split(':')[-1] for entry in
                fetch('worker-network-endpoints').split(','))
  return Hosts(
      f'{names[0]}:{DEFAULT_PORT}', len(names),
      _number('agent-worker-number', fetch('agent-worker-number')),
      f'{HOSTS}=tpu', names)


def _from_slurm(environment: Mapping[str, str]) -> Hosts:
  count = _number('SLURM_NTASKS', environment.get('SLURM_NTASKS', '1'))
  names = expand_nodes(environment['SLURM_STEP_NODELIST'])
  # Jobs that share a node must not share a port.
  port = 20_000 + 2 * (_number(
      'SLURM_JOB_ID', environment.get('SLURM_JOB_ID', '0')) % 20_000)
  return Hosts(
      f'{names[0]}:{port}', count,
      _number('SLURM_PROCID', environment['SLURM_PROCID']), 'SLURM',
      names if len(names) == count else ())


def expand_nodes(text: str) -> tuple[str, ...]:
  """'a[1-2,07],b' to ('a1', 'a2', 'a07', 'b'), as SLURM writes node lists."""
  nodes = []
  for prefix, ranges, suffix in re.findall(
      r'([^,\[\]]+)(?:\[([^\]]*)\])?([^,\[\]]*)', text):
    if not ranges:
      nodes.append(prefix)
      continue
    for part in ranges.split(','):
      first, _, last = part.partition('-')
      for number in range(int(first), int(last or first) + 1):
        nodes.append(f'{prefix}{number:0{len(first)}d}{suffix}')
  return tuple(nodes)


def _checked(found: Hosts) -> Hosts | None:
  # A name that may be looked up: printable ASCII, apart from the colon.
  if not re.fullmatch(r'[!-9;-~]+:[0-9]{1,9}', found.coordinator):
    raise errors.UserError(
        f'the coordinator is {found.coordinator!r} (from {found.source}); give '
        'HOST:PORT')
  if not 0 < int(found.coordinator.split(':')[1]) <= _LAST_PORT:
    raise errors.UserError(
        f'the coordinator is {found.coordinator!r} (from {found.source}); give '
        f'a port of 1 to {_LAST_PORT}: it and the one after it are used')
  if not 0 <= found.process_id < found.num_processes:
    raise errors.UserError(
        f'this is process {found.process_id} of {found.num_processes} (from '
        f'{found.source}); processes count from 0')
  return found if found.num_processes > 1 else None


def _number(name: str, text: str) -> int:
  if not text.strip().isdigit():
    raise errors.UserError(f'{name} is {text!r}, which is no number')
  return int(text)


def _fetch(environment: Mapping[str, str]) -> Fetch:
  host = environment.get('GCE_METADATA_HOST', 'metadata.google.internal')

  def fetch(name: str) -> str:
    request = urllib.request.Request(
        _METADATA.format(host=host, name=name),
        headers={'Metadata-Flavor': 'Google'})
    try:
      with urllib.request.urlopen(
          request, timeout=_METADATA_SECONDS) as response:
        return response.read().decode()
    except (urllib.error.URLError, OSError) as e:
      raise errors.UserError(
          f'{HOSTS} is tpu, but the metadata server {host} does not tell '
          f'{name}: {e}; is this a TPU VM?') from e

  return fetch
