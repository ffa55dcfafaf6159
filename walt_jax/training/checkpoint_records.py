"""What is written with a checkpoint so that a damaged one is found out.

Item `checksums` of a checkpoint has a file of each process that wrote it,
`process_P.json`: step, data position, and the sum (`core/array_sums.py`) of
what that process held of each array. Sums of parts add up, so whoever restores
checks what it read itself, on another mesh too, and nothing is read twice.
"""
from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from walt_jax.core import array_sums
from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.parallel import multihost

PyTree = Any
ITEM = 'checksums'
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Record:
  """What was saved.

  Attributes:
    step: Steps taken.
    next_batch: Index of the next global batch.
    arrays: Type, shape and sum of each array by its path, such as
      'params/query/kernel'.
    metrics: What an evaluation of this state gave, or None.
    config_sha256: Hash of the config that lies in the checkpoint.
  """
  step: int
  next_batch: int
  arrays: Mapping[str, tuple[str, tuple[int, ...], int]]
  metrics: Mapping[str, float] | None = None
  config_sha256: str = ''

  def to_json(self) -> dict[str, Any]:
    """Plain JSON values."""
    return dataclasses.asdict(self) | dict(arrays={
        name: [dtype, list(shape), f'{value:016x}']
        for name, (dtype, shape, value) in self.arrays.items()})

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'Record':
    """The inverse of `to_json`."""
    return cls(**dict(values) | dict(arrays={
        name: (dtype, tuple(shape), int(value, 16))
        for name, (dtype, shape, value) in values['arrays'].items()}))


def _named(tree: PyTree) -> list[tuple[str, Any]]:
  """The leaves of a state, or of a part of it in dicts, by path."""
  return [(jax.tree_util.keystr(path, simple=True, separator='/'), leaf)
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _kind(leaf: Any) -> tuple[str, tuple[int, ...]]:
  if not hasattr(leaf, 'dtype'):
    leaf = np.asarray(leaf)
  return str(leaf.dtype), tuple(leaf.shape)


def _starts(index: Sequence[slice]) -> tuple[int, ...]:
  return tuple(piece.start or 0 for piece in index)


@dataclasses.dataclass(frozen=True)
class _Parts:
  """Parts of arrays on this host.

  Attributes:
    places: Path of the array, and where the part begins in it.
    values: The part's elements.
  """
  places: list[tuple[str, tuple[int, ...]]]
  values: list[np.ndarray]

  def sums(self) -> list[int]:
    return array_sums.of_parts(
        (values, starts) for values, (_, starts) in zip(
            self.values, self.places, strict=True))


def _parts(tree: PyTree, *, written: bool) -> _Parts:
  """This process's parts of a tree.

  Args:
    tree: Arrays of JAX or NumPy.
    written: Whether of parts that several devices hold the first copy alone
      counts, so that all processes together have every element once. If not,
      these are all distinct parts of this process's devices.
  """
  places, values = [], []
  for name, leaf in _named(tree):
    if not isinstance(leaf, jax.Array):
      if multihost.is_main() or not written:
        values.append(np.asarray(leaf))
        places.append((name, (0,) * values[-1].ndim))
      continue
    seen = set()
    for shard in leaf.addressable_shards:
      starts = _starts(shard.index)
      if starts in seen or (written and shard.replica_id):
        continue
      seen.add(starts)
      # Orbax asks for the same copy on the host, which JAX keeps.
      values.append(np.asarray(shard.data))
      places.append((name, starts))
  return _Parts(places, values)


class Handler(ocp.AsyncCheckpointHandler):
  """Writes a process's record, whose sums are made in the background."""

  async def async_save(self, directory, args: 'SaveArgs') -> list[Any]:
    return [ocp.future.CommitFutureAwaitingContractedSignals(
        self._write(directory, args), name='checksums')]

  async def _write(self, directory, args: 'SaveArgs') -> None:
    values = args.document()
    values['sha256'] = files.json_sha256(values)
    path = directory / f'process_{jax.process_index()}.json'
    path.write_text(json.dumps(values))

  def save(self, directory, args) -> None:
    raise NotImplementedError('Checkpoints are saved in the background.')

  def restore(self, directory, args=None) -> None:
    raise NotImplementedError('Records are read by `read`.')


@ocp.args.register_with_handler(Handler, for_save=True, for_restore=True)
@dataclasses.dataclass
class SaveArgs(ocp.args.CheckpointArgs):
  """What `Handler` writes: a record whose sums are still to be made."""
  record: Record
  parts: _Parts

  @classmethod
  def of(cls, state: PyTree, record: Record) -> 'SaveArgs':
    """Takes hold of a state, which may be donated afterwards.

    Args:
      state: What is saved.
      record: Has no arrays yet.
    """
    arrays = {name: (*_kind(leaf), 0) for name, leaf in _named(state)}
    return cls(dataclasses.replace(record, arrays=arrays),
               _parts(state, written=True))

  def document(self) -> dict[str, Any]:
    sums = dict.fromkeys(self.record.arrays, 0)
    for (name, _), value in zip(
        self.parts.places, self.parts.sums(), strict=True):
      sums[name] = (sums[name] + value) % array_sums.MODULUS
    record = dataclasses.replace(self.record, arrays={
        name: (dtype, shape, sums[name])
        for name, (dtype, shape, _) in self.record.arrays.items()})
    return dict(version=_VERSION, processes=jax.process_count(),
                record=record.to_json())


def read(checkpoint: pathlib.Path) -> Record | None:
  """Reads the record of a checkpoint.

  Returns:
    None for one of a version that wrote no records.

  Raises:
    ValueError: The record is damaged, or lost.
  """
  folder = checkpoint / ITEM
  if not folder.is_dir():
    _check_old(checkpoint)
    return None
  total, processes = _document(folder / 'process_0.json')
  for process in range(1, processes):
    more, _ = _document(folder / f'process_{process}.json')
    if (more.step, more.arrays.keys()) != (total.step, total.arrays.keys()):
      raise ValueError(f'{ITEM} of processes 0 and {process} differ')
    total = dataclasses.replace(total, arrays={
        name: (dtype, shape, (
            value + more.arrays[name][2]) % array_sums.MODULUS)
        for name, (dtype, shape, value) in total.arrays.items()})
  return total


def _document(file: pathlib.Path) -> tuple[Record, int]:
  """A process's record, and how many processes wrote one."""
  where = f'{ITEM}/{file.name}'
  if not file.is_file():
    raise ValueError(f'{where} is missing')
  try:
    values = files.read_json(file)
    said = values.pop('sha256')
  except (errors.UserError, AttributeError, KeyError, TypeError) as error:
    raise ValueError(f'{where} cannot be read') from error
  if files.json_sha256(values) != said:
    raise ValueError(f'{where} is not what was written')
  return Record.from_json(values['record']), values['processes']


def _check_old(checkpoint: pathlib.Path) -> None:
  """Raises ValueError where a record must have been written."""
  about = checkpoint / '_CHECKPOINT_METADATA'
  try:
    handlers = files.read_json(about).get('item_handlers') or {}
  except (errors.UserError, AttributeError) as error:
    raise ValueError(f'{about.name} cannot be read, and there is no {ITEM}'
                     ) from error
  if ITEM in handlers:
    raise ValueError(f'{ITEM} are missing')


@dataclasses.dataclass(frozen=True)
class Finding:
  """What a process found when it restored its part of a checkpoint.

  Attributes:
    problem: Why it could not, in a few words; '' if it could.
    sums: [path, where a part begins, its sum] of each part.
  """
  problem: str = ''
  sums: Sequence[tuple[str, Sequence[int], int]] = ()

  @classmethod
  def of(cls, state: PyTree) -> 'Finding':
    """Sums of what lies on this process's devices."""
    parts = _parts(state, written=False)
    return cls(sums=[(*place, value) for place, value in zip(
        parts.places, parts.sums(), strict=True)])


def judge(findings: Sequence[Finding], record: Record | None) -> str:
  """What is wrong with a checkpoint, in a few words; '' if it is sound.

  Args:
    findings: What all processes found that together restored a tree.
    record: What was saved; None if nobody wrote it down.
  """
  for process, finding in enumerate(findings):
    if finding.problem:
      return finding.problem + (
          f' (process {process})' if len(findings) > 1 else '')
  totals: dict[str, dict[tuple[int, ...], int]] = {}
  for finding in findings:
    for name, starts, value in finding.sums:
      seen = totals.setdefault(name, {})
      if seen.setdefault(tuple(starts), value) != value:
        return f'processes read different values of {name}'
  if record is None:
    return ''
  wrong = [name for name, parts in totals.items()
           if sum(parts.values()) % array_sums.MODULUS
           != record.arrays[name][2]]
  if not wrong:
    return ''
  more = f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''
  return f'values of {wrong[0]}{more} are not those that were saved'


def difference(abstract: PyTree, record: Record) -> str:
  """How arrays that are wanted differ from those saved; '' if they do not.

  Args:
    abstract: Shapes and types of a whole state, or of a part of it.
    record: What was saved.
  """
  for name, leaf in _named(abstract):
    kind = _kind(leaf)
    if name not in record.arrays:
      return f'{name} is not there'
    if kind != record.arrays[name][:2]:
      return f'{name} is {record.arrays[name][:2]} there, not {kind}'
  return ''


_ELSEWHERE = ('UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED',
              'PERMISSION_DENIED', 'UNAUTHENTICATED', 'CANCELLED')


def is_damage(error: Exception) -> bool:
  """Whether an error of reading tells of the files, not of what reads them.

  A network that fails or files that this user may not read are no damage.
  """
  if isinstance(error, (PermissionError, ConnectionError, TimeoutError,
                        MemoryError, jax.errors.JaxRuntimeError)):
    return False
  return not (paths.is_refusal(error)
              or any(word in str(error) for word in _ELSEWHERE))


def in_words(error: Exception) -> str:
  """A few words of an error that may fill pages."""
  text = ' '.join(str(error).split())
  return f'it cannot be read: {text[:160]}' + '..' * (len(text) > 160)
