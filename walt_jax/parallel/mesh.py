"""The device mesh: axes `data`, `fsdp` and `tensor`, and `context` if asked."""
from collections.abc import Sequence
import math

import jax
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from walt_jax.core import errors
from walt_jax.core import host_memory

AXES = ('data', 'fsdp', 'tensor')
# Rows of a batch are spread over both of these.
BATCH_AXES = ('data', 'fsdp')
# Cuts the tokens of a row; only in a mesh where it is larger than 1.
CONTEXT = 'context'


def check_axes(data: int, fsdp: int, tensor: int) -> None:
  """Raises UserError for sizes of axes that fit no number of devices."""
  shape = (data, fsdp, tensor)
  if any(size < 1 and size != -1 for size in shape):
    raise errors.UserError(
        f'{_named(shape)}: an axis is a positive number, or -1 for all '
        'remaining devices')
  if shape.count(-1) > 1:
    raise errors.UserError(
        f'{_named(shape)}: only one axis may be -1; give the others numbers')


def mesh_shape(
    data: int, fsdp: int, tensor: int, num_devices: int
) -> tuple[int, int, int]:
  """Fills in the one axis that may be -1 (all remaining devices).

  Raises:
    UserError: If the axes do not multiply to the number of devices.
  """
  check_axes(data, fsdp, tensor)
  shape = (data, fsdp, tensor)
  known = math.prod(size for size in shape if size != -1)
  if -1 in shape and num_devices % known:
    raise errors.UserError(
        f'{_named(shape)} does not fill {num_devices} device(s), of which '
        f'{known} is no divisor; make the product of the axes that are given '
        'one')
  if -1 not in shape and known != num_devices:
    raise errors.UserError(
        f'{_named(shape)} does not fill {num_devices} device(s); make the '
        'product of the axes equal to the device count, or set one axis to -1')
  data, fsdp, tensor = (
      num_devices // known if size == -1 else size for size in shape)
  return data, fsdp, tensor


def without_context(num_devices: int, context: int) -> int:
  """Devices that the other axes share.

  Raises:
    UserError: If `context` does not divide the devices.
  """
  if context < 1 or num_devices % context:
    raise errors.UserError(
        f'mesh.context={context} does not divide {num_devices} device(s); '
        'make it a divisor of them')
  return num_devices // context


def _named(shape: tuple[int, int, int]) -> str:
  return ', '.join(f'mesh.{n}={s}' for n, s in zip(AXES, shape, strict=True))


def available() -> list[jax.Device]:
  """The devices of all processes."""
  return jax.devices()


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
    slices: int = -1,
    *,
    context: int = 1,
) -> jax.sharding.Mesh:
  """Returns a mesh of `devices` (default: all) with automatic axes.

  Explicit axes, JAX's default, would reject the reshapes of window attention.

  Where the devices are of several slices (of TPUs; nodes of GPUs), `data` goes
  over them, outermost: between slices there is a slow network, over which
  only gradients go, once a step.

  Args:
    data: Size of the axis, as are the next two; -1: all remaining devices.
    fsdp: See `data`.
    tensor: See `data`.
    devices: The devices; all by default.
    slices: Slices that these are of, see `by_slice`.
    context: Devices that share the tokens of a row; the mesh has the axis where
      it is larger than 1.

  Raises:
    UserError: If the axes do not multiply to the number of devices, or all but
      `data` do not fit inside a slice.
  """
  devices = available() if devices is None else list(devices)
  shape = mesh_shape(data, fsdp, tensor, without_context(
      len(devices), context))
  groups = by_slice(devices, slices)
  if shape[0] % len(groups):
    raise errors.UserError(
        f'{_named(shape)}: the devices are {len(groups)} slices of '
        f'{len(groups[0])}, and all axes but mesh.data stay inside one; '
        f'make mesh.data a multiple of {len(groups)}')
  inside = (shape[0] // len(groups), *shape[1:], *[context] * (context > 1))
  axes = (*AXES, CONTEXT)[:len(inside)]
  types = (AxisType.Auto,) * len(axes)
  # JAX knows how to lay axes on the links of one slice.
  meshes = [jax.make_mesh(inside, axes, axis_types=types, devices=one)
            for one in groups]
  return jax.sharding.Mesh(
      np.concatenate([one.devices for one in meshes]), axes, axis_types=types)


def by_slice(devices: Sequence[jax.Device], number: int = -1
             ) -> list[list[jax.Device]]:
  """Devices that reach each other by fast links: those of each slice.

  Args:
    devices: The devices; TPUs and GPUs tell their slice, others are one.
    number: Number of slices: those that the devices tell are cut into as many,
      of neighbours in their order. -1 takes them as they are.

  Raises:
    UserError: If slices differ in size, or are not that many.
  """
  slices: dict[int, list[jax.Device]] = {}
  for device in devices:
    slices.setdefault(getattr(device, 'slice_index', 0), []).append(device)
  found = [slices[index] for index in sorted(slices)]
  if len({len(one) for one in found}) > 1:
    raise errors.UserError(
        f'the devices are slices of {[len(one) for one in found]}; a mesh '
        'takes slices of one size')
  if number == -1:
    return found
  parts, rest = divmod(number, len(found))
  if rest or len(devices) % number:
    raise errors.UserError(
        f'config key mesh.slices is {number}, but {len(devices)} device(s) in '
        f'{len(found)} slice(s) cannot be cut into as many; set it to -1')
  size = len(devices) // number
  return [one[size * part:size * (part + 1)] for one in found
          for part in range(parts)]


def slow_axis(mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh,
              slices: int = -1) -> str | None:
  """The axis that goes over the slow network between slices, or None.

  Args:
    mesh: The mesh; devices of an abstract one are of one slice.
    slices: Slices that these are of, see `by_slice`.
  """
  if isinstance(mesh, jax.sharding.AbstractMesh):
    return None
  devices = list(np.asarray(mesh.devices).flat)
  return AXES[0] if len(by_slice(devices, slices)) > 1 else None


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Returns the sharding of what every device holds whole."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Returns the sharding of arrays whose first axis is rows of the batch."""
  return NamedSharding(mesh, P(BATCH_AXES))


def drawn_rows(mesh: jax.sharding.Mesh, num_rows: int, num_passes: int
               ) -> int:
  """Rows of a batch that is drawn: `num_rows`, or more for whole shards.

  Guidance makes several rows of each: where those are whole shards already,
  as of one clip on two devices, none is added.

  Args:
    mesh: The mesh.
    num_rows: Rows that are wanted.
    num_passes: Rows that the network sees of each.
  """
  shards = num_batch_shards(mesh)
  if num_rows < shards and num_rows * num_passes % shards == 0:
    return num_rows
  return -(-num_rows // shards) * shards


def drawn_sharding(mesh: jax.sharding.Mesh, num_rows: int) -> NamedSharding:
  """Where rows that are drawn lie: whole where they are no whole shards."""
  whole = num_rows % num_batch_shards(mesh)
  return replicated(mesh) if whole else batch_sharding(mesh)


def num_context_parts(mesh: jax.sharding.Mesh) -> int:
  """Returns into how many parts a row's tokens are cut."""
  return mesh.shape.get(CONTEXT, 1)


def num_batch_shards(mesh: jax.sharding.Mesh) -> int:
  """Returns into how many parts a batch's rows are cut."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def platform(mesh: jax.sharding.Mesh) -> str:
  """Returns 'cpu', 'gpu' or 'tpu', of the mesh's own devices."""
  return np.asarray(mesh.devices).flat[0].platform


def words(mesh: jax.sharding.Mesh) -> str:
  """The devices and axes in a few words: '8 x TPU v5e, data 1 x fsdp 8 ..'."""
  devices = list(np.asarray(mesh.devices).flat)
  axes = ' x '.join(f'{name} {size}' for name, size in mesh.shape.items())
  slices = len(by_slice(devices))
  apart = f' in {slices} slices' if slices > 1 else ''
  return f'{len(devices)} x {devices[0].device_kind}{apart}, {axes}'


def peak_memory(mesh: jax.sharding.Mesh) -> tuple[str, int]:
  """Returns ('device' or 'host', peak bytes): the host's where a device of
  the mesh does not count its own."""
  stats = mesh.local_devices[0].memory_stats() or {}
  if 'peak_bytes_in_use' in stats:
    return 'device', stats['peak_bytes_in_use']
  return 'host', host_memory.peak_bytes()
