"""Several processes: which rows each reads, and how arrays come together."""
import functools
import json
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from walt_jax.core import moments as moments_lib
from walt_jax.parallel import distributed
from walt_jax.parallel import mesh as mesh_lib

PyTree = Any


def is_main() -> bool:
  """Returns whether this process writes logs and small files."""
  return jax.process_index() == 0


def local_mesh() -> jax.sharding.Mesh:
  """A mesh of `local_devices`."""
  return mesh_lib.make_mesh(devices=local_devices())


def local_devices() -> list[jax.Device]:
  """All devices; with several processes each its own."""
  if jax.process_count() == 1:
    return mesh_lib.available()
  return jax.local_devices()


def process_rows(mesh: jax.sharding.Mesh, num_rows: int) -> tuple[int, int]:
  """Returns [start, stop): the rows of a global batch this process reads.

  Raises:
    ValueError: If the rows do not divide over the mesh, or the mesh gives
      this process rows that are not contiguous.
  """
  shards = mesh_lib.num_batch_shards(mesh)
  if num_rows % shards:
    raise ValueError(
        f'A batch of {num_rows} rows does not divide over mesh.data * '
        f'mesh.fsdp = {shards}; make it a multiple.')
  sharding = mesh_lib.batch_sharding(mesh)
  indices = sharding.addressable_devices_indices_map((num_rows,)).values()
  pieces = sorted({
      index[0].indices(num_rows)[:2] for index in indices if index})
  start, stop = pieces[0]
  for piece_start, piece_stop in pieces[1:]:
    if piece_start != stop:
      raise ValueError(
          f'Process {jax.process_index()} owns the rows {pieces} of a batch, '
          'which are not contiguous; put `tensor` inside a host.')
    stop = piece_stop
  return start, stop


def global_batch(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
  """Joins the processes' rows into arrays sharded over the batch axes.

  Args:
    tree: NumPy arrays whose first axis is this process's rows.
    mesh: The mesh.

  Returns:
    jax.Arrays with all processes' rows.
  """
  sharding = mesh_lib.batch_sharding(mesh)
  if jax.process_count() == 1:
    _check_rows(tree, mesh)
    return jax.device_put(tree, sharding)

  def join(rows):
    total = _global_rows(rows.shape[0], mesh)
    return jax.make_array_from_process_local_data(
        sharding, np.asarray(rows), (total, *rows.shape[1:]))
  return jax.tree.map(join, tree)


def _check_rows(tree: PyTree, mesh: jax.sharding.Mesh) -> None:
  shards = mesh_lib.num_batch_shards(mesh)
  for leaf in jax.tree.leaves(tree):
    if leaf.shape[0] % shards:
      raise ValueError(
          f'A batch of {leaf.shape[0]} rows does not divide over mesh.data * '
          f'mesh.fsdp = {shards}; make it a multiple.')


def _global_rows(local_rows: int, mesh: jax.sharding.Mesh) -> int:
  """Returns the row count of the whole batch from this process's."""
  shards = mesh_lib.num_batch_shards(mesh)
  start, stop = process_rows(mesh, shards)
  return local_rows * shards // (stop - start)


def local_rows(tree: PyTree) -> PyTree:
  """This process's rows of arrays that are sharded over the batch axes.

  The inverse of `global_batch`; NumPy arrays, rows in their order.
  """
  def rows(array):
    pieces = {}
    for shard in array.addressable_shards:
      start = shard.index[0].start or 0
      pieces.setdefault(start, shard)  # `tensor` holds copies.
    return np.concatenate(
        [np.asarray(pieces[start].data) for start in sorted(pieces)])
  return jax.tree.map(rows, tree)


def fetch(tree: PyTree) -> PyTree:
  """Whole arrays on the host, in every process, wherever their parts are."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)


def put(tree: PyTree, shardings: PyTree) -> PyTree:
  """Puts host arrays, the same in every process, where `shardings` say."""
  if jax.process_count() == 1:
    return jax.device_put(tree, shardings)

  def place(leaf, sharding):
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(
        leaf.shape, sharding, lambda index: leaf[index])
  return jax.tree.map(place, tree, shardings)


def gather(value: np.ndarray) -> np.ndarray:
  """All processes' arrays of one shape and type, stacked: [P, ..].

  Bytes travel: JAX would round float64 to float32.

  Raises:
    LateError: A process does not come within `distributed.PATIENCE_SECONDS`.
  """
  value = np.asarray(value)
  distributed.meet('a gathering')
  raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
  found = np.asarray(multihost_utils.process_allgather(raw))
  return found.view(value.dtype).reshape(jax.process_count(), *value.shape)


def of_main(value: Any) -> Any:
  """A JSON value of process 0, in every process."""
  if jax.process_count() == 1:
    return value
  return of_all(value if is_main() else None)[0]


def of_all(value: Any) -> list[Any]:
  """The JSON values of all processes, in every process."""
  if jax.process_count() == 1:
    return [value]
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = gather(np.array([len(text)], np.int64))[:, 0]
  padded = np.zeros(int(sizes.max()), np.uint8)
  padded[:len(text)] = text
  return [json.loads(row[:size].tobytes())
          for row, size in zip(gather(padded), sizes, strict=True)]


def merge(moments: moments_lib.Moments) -> moments_lib.Moments:
  """Moments of what all processes have seen."""
  if jax.process_count() == 1:
    return moments
  counts = gather(np.array([moments.count], np.int64))[:, 0]
  means, scatters = gather(moments.mean), gather(moments.scatter)
  parts = [moments_lib.Moments(int(count), mean, scatter)
           for count, mean, scatter in zip(
               counts, means, scatters, strict=True)]
  return functools.reduce(moments_lib.Moments.merge, parts)


def interleave(rows: np.ndarray, chunk: int = 1) -> np.ndarray:
  """Joins rows [n, D] of which process p of P holds every P-th chunk."""
  counts = gather(np.array([len(rows)], np.int64))[:, 0]
  longest = int(counts.max())
  padded = np.zeros((longest, *rows.shape[1:]), rows.dtype)
  padded[:len(rows)] = rows
  parts = gather(padded)
  return np.concatenate([
      parts[p, i:min(i + chunk, counts[p])]
      for i in range(0, longest, chunk) for p in range(len(counts))])


def total(value: int) -> int:
  """Sum of non-negative numbers below 2^128."""
  words = np.frombuffer(value.to_bytes(16, 'little'), np.uint8)
  return sum(int.from_bytes(row.tobytes(), 'little') for row in gather(words))


def largest(value: int) -> int:
  """Largest of the processes' numbers."""
  return int(gather(np.array([value], np.int64)).max())
