"""Checkpoints of a run: train state, data position and config, together.

What is restored is checked (`checkpoint_records`). Which checkpoints there are
is told by the folder alone (`core/run_files.py`), of which Orbax is told.
"""
from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import json
import pathlib
import sys
import threading
import time
from typing import Any

import jax
import orbax.checkpoint as ocp

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.parallel import multihost
from walt_jax.training import checkpoint_records
from walt_jax.training import resuming
from walt_jax.training import retention
from walt_jax.training import workdir as workdir_lib

PyTree = Any

# Bytes of a copy's share from which the devices that hold copies of an array
# write it together: to cut out a share is a program of its own for every shape
# and device, which takes longer to compile than small arrays take to write.
SHARE_BYTES = 2**20
_TWO_NEWEST = retention.Keep()
# For reads that are under way when another has failed.
_LATE_SECONDS = 0.2
_METRICS = 'metrics'  # Item and file of a checkpoint, by Orbax.


@dataclasses.dataclass(frozen=True)
class Restored:
  """What a run continues with.

  Attributes:
    state: The train state.
    step: Steps taken.
    next_batch: Index of the next global batch.
  """
  state: PyTree
  step: int
  next_batch: int


class Checkpoints:
  """Saves and restores one run in `workdir`.

  Attributes:
    workdir: The run's directory.
    config: The run's config, as plain JSON values.
    keep: Which checkpoints stay.
    check_owner: Raises where another run has taken over the directory.
  """

  def __init__(
      self,
      workdir: str | pathlib.Path,
      config: Mapping[str, Any],
      *,
      keep: retention.Keep = _TWO_NEWEST,
      version: int = 0,
      complete: Callable[[workdir_lib.WorkDir], Mapping[str, Any]] = (
          workdir_lib.WorkDir.config),
      check_owner: Callable[..., None] = lambda *, now: None,
  ):
    """Opens a work directory, new or old; writes nothing yet.

    Args:
      workdir: Created by the first write.
      config: The config to train with, compared with the saved one.
      keep: Which checkpoints stay.
      version: Version of the config's keys, written with it.
      complete: Reads a saved config, with the keys that it lacks.
      check_owner: `check_owner(now=)` raises where another run has taken over
        the directory, see `lease.Lease.check`.

    Raises:
      UserError: If the directory holds a run of another config, or one whose
        checkpoints are gone.
    """
    self.workdir = paths.absolute(workdir)
    self.config = json.loads(json.dumps(config))
    if self.workdir.exists() and not self.workdir.is_dir():
      raise errors.UserError(f'--workdir {workdir} is a file, not a directory')
    self._found = workdir_lib.WorkDir(self.workdir)
    self.keep = keep
    self._version = version
    self.check_owner = check_owner
    self._damaged: set[int] = set()
    self._opened: ocp.CheckpointManager | None = None
    self._is_draft = False
    self._finisher: threading.Thread | None = None
    if self._found.config_file.exists() and not self._found.begins_anew():
      self._found.check_begun()
      resuming.check_resume(complete(self._found), self.config)

  @property
  def _manager(self) -> ocp.CheckpointManager:
    if self._opened is None:
      paths.make_folder(self.workdir)
      self._damaged.update(
          multihost.of_main(run_files.damaged_steps(self.workdir)))
      if self.keep.best:
        self._repair_metrics()
      self._opened = ocp.CheckpointManager(
          self.workdir / run_files.CHECKPOINTS,
          options=self.keep.options(self._damaged),
          item_names=('state', 'data', 'config', checkpoint_records.ITEM),
          item_handlers={'state': _state_handler(),
                         checkpoint_records.ITEM: checkpoint_records.Handler()})
    return self._opened

  def write_config(self) -> None:
    """Writes `config.json`, whole or not at all.

    It is a draft until the first checkpoint is whole: a run that comes to
    nothing before that begins again.
    """
    if multihost.is_main():
      self._is_draft = self.latest_step() is None
      self._write_config()

  def _write_config(self) -> None:
    paths.make_folder(self.workdir)
    values = self._config_with_version()
    if self._is_draft:
      values[workdir_lib.DRAFT] = True
    files.write_json(self.workdir / run_files.CONFIG, values, sort_keys=True)

  def _config_with_version(self) -> dict[str, Any]:
    return self.config | {workdir_lib.VERSION: self._version}

  def latest_step(self) -> int | None:
    """Returns the step of the newest whole checkpoint."""
    return self._found.newest_step()

  def save(self, step: int, state: PyTree, next_batch: int,
           metrics: Mapping[str, float] | None = None) -> None:
    """Copies the state off the devices and writes it in the background.

    Args:
      step: Steps taken.
      state: The train state; it may be donated as soon as this returns.
      next_batch: Index of the next global batch to train on.
      metrics: What an evaluation of this very state gave, if there was one;
        only with it can it be among the best.

    Raises:
      UserError: Another run has taken over the directory.
    """
    self.check_owner(now=True)
    config = self._config_with_version()
    manager = self._manager
    if step in self._damaged:
      manager.delete(step)
      self._damaged.remove(step)
    record = checkpoint_records.Record(
        step, next_batch, {}, metrics and dict(metrics),
        files.json_sha256(config))
    manager.save(step, args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(state),
        data=ocp.args.JsonSave({'next_batch': next_batch}),
        config=ocp.args.JsonSave(config),
        **{checkpoint_records.ITEM: checkpoint_records.SaveArgs.of(
            state, record)}), metrics=metrics, force=True)
    if self._is_draft:
      self._is_draft = False
      self._finisher = threading.Thread(
          target=self._finish_draft, args=(manager,), daemon=True)
      self._finisher.start()

  def _finish_draft(self, manager: ocp.CheckpointManager) -> None:
    """Makes the config final when the checkpoint under way is whole."""
    try:
      manager.wait_until_finished()
    except Exception:  # pylint: disable=broad-except
      return  # The thread that trains is told, too.
    self._write_config()

  def restore(self, abstract_state: PyTree) -> Restored | None:
    """Restores the newest sound checkpoint, written on whatever mesh.

    All processes restore the same one. Once an older one is restored, newer
    ones that could not be are marked as damaged: before that, the fault may
    be of what reads them.

    Args:
      abstract_state: Shapes, types and shardings to restore to.

    Returns:
      None where there is no checkpoint.

    Raises:
      UserError: None of those there is sound, or they cannot be reached.
    """
    failed: dict[int, str] = {}
    steps = multihost.of_main(self._found.steps())
    for step in reversed(steps):
      restored, problem = self._try(step, abstract_state)
      if not problem:
        self._mark(failed, step)
        return restored
      del restored  # Before the next takes its memory.
      failed[step] = problem
    if failed:
      raise errors.UserError(
          f'no checkpoint of {self.workdir} can be restored ('
          + '; '.join(f'step {step}: {why}' for step, why in failed.items())
          + '); bring one back, or begin again with --restart, which moves '
          'them aside')
    return None

  def _try(self, step: int, abstract_state: PyTree
           ) -> tuple[Restored | None, str]:
    """Restores a checkpoint; returns it, or what is wrong with it."""
    path = self._found.checkpoint(step)
    record, next_batch, problem = _read_position(path, step)
    if not problem and record is not None:
      unlike = checkpoint_records.difference(abstract_state, record)
      if unlike:
        raise errors.UserError(
            f'checkpoint {step} of {self.workdir} holds another state than '
            f'this version trains ({unlike}); continue with the version that '
            'wrote it, or use a new --workdir')
    state = None
    if not problem:
      state, problem = restore_checked(
          path, lambda: _restore_state(path, abstract_state), record,
          is_shared=True)
    counted = getattr(state, 'step', None)
    if not problem and counted is not None and int(
        jax.device_get(counted)) != step:
      problem = f'its state is of step {int(jax.device_get(counted))}'
    if problem:
      return None, problem
    return Restored(state, step, next_batch), ''

  def _mark(self, failed: Mapping[int, str], used: int) -> None:
    """Marks what could not be restored, and says so, in the first process."""
    self._damaged.update(failed)
    if not multihost.is_main():
      return
    for step, why in failed.items():
      mark_damaged(self._found.checkpoint(step), why)
      _say(f'checkpoint {step} of {self.workdir} is damaged: {why}; it is '
           f'marked ({run_files.CHECKPOINTS}/{step}/{run_files.DAMAGED}) and '
           f'stays until step {step} is saved again; step {used} is used')

  def _repair_metrics(self) -> None:
    """Writes anew what checkpoints are ranked by, where it is damaged.

    Orbax reads it of all checkpoints, and ends where it is no JSON.
    """
    if multihost.is_main():
      for step in (*self._found.steps(), *self._damaged):
        folder = self.workdir / run_files.CHECKPOINTS / str(step)
        file = folder / _METRICS / _METRICS
        if not file.is_file():
          continue
        try:
          record = checkpoint_records.read(folder)
        except (ValueError, errors.UserError):
          record = None
        try:
          found = files.read_json(file)
        except errors.UserError:
          found = None
        wanted = found if record is None else record.metrics
        if not isinstance(found, dict) or not _equal(found, wanted):
          _say(f'{file} is damaged; it is written again')
          files.write_json(file, wanted or {})
    multihost.of_main(None)

  def wait(self) -> None:
    """Waits until the checkpoint under way is whole."""
    if self._opened is not None:
      self._opened.wait_until_finished()
    self._join()

  def close(self) -> None:
    """Waits, and ends the background threads."""
    if self._opened is not None:
      self._opened.close()
      self._opened = None
    self._join()

  def _join(self) -> None:
    if self._finisher is not None:
      self._finisher.join()


def _equal(one: Any, other: Any) -> bool:
  """Whether two JSON values are equal; values that are not numbers, too."""
  return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _say(text: str) -> None:
  print(f'walt: {text}', file=sys.stderr, flush=True)


def _read_position(path: pathlib.Path, step: int
                   ) -> tuple[checkpoint_records.Record | None, int, str]:
  """The record and the data position of a checkpoint, and what is wrong.

  The first process reads, and all have what it found.

  Raises:
    UserError: The files cannot be reached.
  """
  record, next_batch, problem, unreachable = None, -1, '', ''
  if multihost.is_main():
    try:
      record = checkpoint_records.read(path)
      next_batch = files.read_json(path / 'data' / 'metadata')['next_batch']
      problem = _contradiction(step, next_batch, record)
      if record is not None:
        _check_config(path, record)
    except (ValueError, KeyError, TypeError, OSError,
            errors.UserError) as error:
      problem = checkpoint_records.in_words(error)
      if not checkpoint_records.is_damage(error):
        unreachable = problem
  values, next_batch, problem, unreachable = multihost.of_main(
      [record and record.to_json(), next_batch, problem, unreachable])
  if unreachable:
    raise errors.UserError(_unreachable(path, unreachable))
  record = values and checkpoint_records.Record.from_json(values)
  return record, next_batch, problem


def _unreachable(path: pathlib.Path, why: str) -> str:
  return (f'{path} cannot be reached ({why}); run the same command again when '
          'it can')


def _contradiction(step: int, next_batch: int,
                   record: checkpoint_records.Record | None) -> str:
  """How folder, data position and record contradict each other."""
  if record is not None and record.step != step:
    return f'it was saved as step {record.step}'
  # Each step takes a batch, those that are skipped too.
  if next_batch != step or (
      record is not None and next_batch != record.next_batch):
    return f'its data position is {next_batch}'
  return ''


def _check_config(path: pathlib.Path,
                  record: checkpoint_records.Record) -> None:
  """Says that a checkpoint's copy of the config is damaged: nothing reads it.
  """
  file = path / 'config' / 'metadata'
  try:
    found = files.json_sha256(files.read_json(file))
  except errors.UserError:
    found = ''
  if found != record.config_sha256:
    _say(f'{file} is damaged; {run_files.CONFIG} of the run holds the same')


def restore_checked(
    path: pathlib.Path, restore: Callable[[], PyTree],
    record: checkpoint_records.Record | None, *, is_shared: bool
    ) -> tuple[PyTree, str]:
  """Restores a tree of a checkpoint and compares it with the record.

  Args:
    path: The checkpoint.
    restore: Reads it.
    record: What was saved; None if nobody wrote it down.
    is_shared: Whether all processes restore parts of one tree: then all of
      them judge alike.

  Returns:
    The tree, or None, and what is wrong with it in a few words.

  Raises:
    UserError: It cannot be reached, in this process or another.
  """
  tree, unreachable = None, ''
  try:
    with _late_reads_unsaid():
      tree = restore()
    finding = checkpoint_records.Finding.of(tree)
  # Readers raise whatever damaged bytes lead them to.
  except Exception as error:  # pylint: disable=broad-except
    finding = checkpoint_records.Finding(checkpoint_records.in_words(error))
    if not checkpoint_records.is_damage(error):
      unreachable = finding.problem
  told = [(unreachable, finding)]
  if is_shared:
    told = [(why, checkpoint_records.Finding(**values)) for why, values in
            multihost.of_all([unreachable, dataclasses.asdict(finding)])]
  for why in filter(None, (why for why, _ in told)):
    raise errors.UserError(_unreachable(path, why))
  problem = checkpoint_records.judge([found for _, found in told], record)
  return (None, problem) if problem else (tree, '')


@contextlib.contextmanager
def _late_reads_unsaid() -> Iterator[None]:
  """Keeps reads that end after the first that failed from printing so.

  Orbax waits for none of them, and TensorStore then prints a traceback of
  asyncio's for each.
  """
  before = sys.unraisablehook

  def hook(unraisable: Any) -> None:
    if str(unraisable.exc_value) != 'Event loop is closed':
      before(unraisable)

  sys.unraisablehook = hook
  try:
    yield
  except Exception:
    time.sleep(_LATE_SECONDS)
    raise
  finally:
    sys.unraisablehook = before


def mark_damaged(path: pathlib.Path, why: str) -> None:
  """Marks a checkpoint as not to be used, if this user may."""
  try:
    files.write_json(path / run_files.DAMAGED, dict(why=why))
  except errors.UserError as error:
    _say(f'{path} is damaged ({why}), but it cannot be marked: {error}')


def _state_handler() -> ocp.PyTreeCheckpointHandler:
  """Orbax's own handler, apart from `SHARE_BYTES`."""
  types = ocp.type_handlers
  of_arrays = types.ArrayHandler(
      min_slice_bytes_for_replica_parallel=SHARE_BYTES)
  return ocp.PyTreeCheckpointHandler(
      type_handler_registry=types.create_type_handler_registry(*(
          (kind, of_arrays if kind is jax.Array
           else types.get_type_handler(kind))
          for kind in types.supported_types())))


def _restore_state(path: pathlib.Path, abstract: PyTree) -> PyTree:
  handler = _state_handler()
  try:
    return handler.restore(path / 'state', args=restore_args(abstract))
  finally:
    handler.close()


def restore_args(abstract: PyTree) -> ocp.args.PyTreeRestore:
  """How to restore a tree to these shapes, types and shardings."""
  return ocp.args.PyTreeRestore(
      item=abstract,
      restore_args=ocp.checkpoint_utils.construct_restore_args(abstract))
