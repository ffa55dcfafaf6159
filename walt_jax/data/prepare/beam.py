"""Runs independent tasks with Apache Beam, from a laptop to a cluster.

A task writes its result to a file and returns nothing, so that what is done is
seen on disk: by the progress bar, and by the next run after an interruption.
On a cluster, input and output folders must be visible to all workers.
"""
from collections.abc import Callable, Sequence
import contextlib
import logging
import os
import pickle
import shlex
import signal
import sys
import threading
from typing import Any

from walt_jax.core import errors
from walt_jax.core import extras
from walt_jax.core import progress

_POLL_SECONDS = 0.5
_NAMESPACE, _FAILURES = 'walt', 'failures'
_INTERRUPTED = (' -2', ' 130')  # Exit codes of workers that Ctrl-C ended.
_MAX_FAILURES = 5  # Told; a full disk fails all tasks alike.

Task = Callable[[Any], None]


def run(task: Task, items: Sequence[Any], *, done: Callable[[], int],
        total: int, label: str, workers: int = 1,
        pipeline_options: str = '') -> None:
  """Calls `task` for every item, in any order, on some workers.

  Args:
    task: A function (or partial of one) that worker processes can import.
    items: Arguments of the task, one a call; they are pickled.
    done: Units of work that are done by now, for progress.
    total: Units in all.
    label: What is being done.
    workers: Processes of the local runner.
    pipeline_options: Beam's, 'name=value,name=value'; with `runner=` the work
      goes there, not to local processes.

  Raises:
    errors.UserError: What tasks raised as such, after all have run; or a
      worker was killed.
  """
  if not items:
    return
  beam, options, runner = _beam(min(workers, len(items)), pipeline_options)
  with _watch(done, total, label), _silence(logging.ERROR):
    try:
      pipeline = beam.Pipeline(runner, options=options)
    except (ValueError, ImportError) as error:
      raise errors.UserError(
          f'--beam_pipeline_options {pipeline_options!r}: {error}') from error
    _ = (pipeline
         | 'List' >> beam.Create([pickle.dumps(item) for item in items])
         | 'Spread' >> beam.Reshuffle()
         | 'Work' >> beam.Map(_call, task))
    with _interruptible():
      result = pipeline.run()
      result.wait_until_finish()
  failures = _failures(beam, result)
  if failures:
    raise errors.UserError('; '.join(sorted(failures)[:_MAX_FAILURES]))


class _WorkerDied(BaseException):
  """Raised in the main thread; nothing in between may catch it."""


@contextlib.contextmanager
def _interruptible():
  """Ends a local run whose worker has died, and tells so.

  Beam's local runner waits for ever for a worker that was killed (for want of
  memory, mostly); all there is to see is an exception in one of its threads.
  """
  main = threading.main_thread()
  if threading.current_thread() is not main:
    yield  # Signals only reach the main thread.
    return
  ended = False

  def notice(args: threading.ExceptHookArgs) -> None:
    text = str(args.exc_value)
    if text.startswith('Worker subprocess exited'):
      if not ended:
        death.append(text)
        # Not SIGINT: processes in the background may ignore that.
        signal.pthread_kill(main.ident, signal.SIGUSR2)
    elif args.exc_type.__module__ != 'grpc':  # Its peer has gone.
      hook(args)

  def stop(*_) -> None:
    raise _WorkerDied(death[0])

  death: list[str] = []
  hook = threading.excepthook
  handler = signal.signal(signal.SIGUSR2, stop)
  threading.excepthook = notice
  try:
    yield
    threading.excepthook = hook  # Else threads end later, and are silent.
  except (_WorkerDied, KeyboardInterrupt, RuntimeError) as error:
    text = str(error)
    if text.startswith('KeyboardInterrupt') or text.endswith(_INTERRUPTED):
      raise KeyboardInterrupt from error  # In a worker.
    if not isinstance(error, _WorkerDied):
      raise
    raise errors.UserError(
        f'a worker process was killed ({text}); if memory ran out, give fewer '
        '--workers. Run the same command again: it continues where it stopped'
    ) from error
  finally:
    ended = True
    signal.signal(signal.SIGUSR2, handler)


def _call(item: bytes, task: Task) -> None:
  """Runs one task; a UserError is told to the driver, others are faults."""
  from apache_beam.metrics import metric
  try:
    task(pickle.loads(item))
  except errors.UserError as error:
    # Text metrics are what every runner brings back.
    metric.Metrics.string_set(_NAMESPACE, _FAILURES).add(
        str(error).encode('ascii', 'backslashreplace').decode())


def _failures(beam, result) -> set[str]:
  found = result.metrics().query(
      beam.metrics.metric.MetricsFilter().with_name(_FAILURES))
  failures: set[str] = set()
  for entry in found.get('string_sets', ()):
    failures |= set(entry.result.string_set if hasattr(
        entry.result, 'string_set') else entry.result)
  return failures


def _beam(workers: int, pipeline_options: str):
  """Imports Beam (1 to 4 s); returns it, its options and a local runner."""
  with extras.needed('data', 'preparing data', 'Apache Beam'), _silence(
      logging.WARNING):
    import apache_beam as beam
    from apache_beam.options import pipeline_options as options_lib
  # What goes wrong is raised; Beam also tells what goes well.
  logging.getLogger('apache_beam').setLevel(logging.CRITICAL + 1)
  given = [f'--{item.strip()}' for item in pipeline_options.split(',')
           if item.strip()]
  here = not any(item.startswith('--runner=') for item in given)
  if here:
    given.append(f'--direct_num_workers={workers}')
  options = options_lib.PipelineOptions(given)
  unknown = set(options.get_all_options(retain_unknown_options=True)) - set(
      options.get_all_options())
  if unknown:
    raise errors.UserError(
        f'--beam_pipeline_options {pipeline_options!r}: Beam has no option '
        f'{", ".join(sorted(unknown))}')
  return beam, options, _local_runner(options, workers) if here else None


def _local_runner(options, workers: int):
  """The engine of DirectRunner, with worker processes if there are several.

  Under that name, Beam would first look for another runner's binary, on the
  network.
  """
  from apache_beam.portability.api import beam_provision_api_pb2
  from apache_beam.runners.portability import portable_runner
  from apache_beam.runners.portability.fn_api_runner import fn_runner
  from apache_beam.transforms import environments
  environment = None
  if workers > 1:
    # Beam's own command, but silent: it would tell of its coming and going.
    environment = environments.SubprocessSDKEnvironment.from_command_string(
        f'exec {shlex.quote(sys.executable)} -m '
        f'walt_jax.data.prepare.beam_worker {os.getpid()} 2> /dev/null')
  encoded = portable_runner.JobServiceHandle.encode_pipeline_options(
      options.get_all_options())
  provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
  return fn_runner.FnApiRunner(
      environment, provision_info=fn_runner.ExtendedProvisionInfo(provision))


@contextlib.contextmanager
def _silence(level: int):
  """Hides log lines; what goes wrong is raised."""
  before = logging.root.manager.disable
  logging.disable(level)
  try:
    yield
  finally:
    logging.disable(before)


@contextlib.contextmanager
def _watch(done: Callable[[], int], total: int, label: str):
  """Shows progress while the work is done elsewhere."""
  stop = threading.Event()
  start = done()

  def poll(bar):
    while not stop.wait(_POLL_SECONDS):
      bar.update(done() - bar.n)

  with progress.bar(total, label, 'file', initial=start) as bar:
    thread = threading.Thread(target=poll, args=(bar,), daemon=True)
    thread.start()
    try:
      yield
    finally:
      stop.set()
      thread.join()
      bar.update(done() - bar.n)
