"""Axes of the mesh that is active, for what each device does by itself."""
from flax import linen as nn
import jax
from jax.sharding import AxisType


def free(mesh: jax.sharding.AbstractMesh) -> frozenset[str]:
  """The axes that no `jax.shard_map` around this place has cut already."""
  return frozenset(
      name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
      if kind != AxisType.Manual)


def cut(mesh: jax.sharding.AbstractMesh, axis: str | None, size: int
        ) -> str | tuple[str, ...] | None:
  """Axes that cut a logical axis; what they do not divide stays whole."""
  name = nn.logical_to_mesh_axes((axis,))[0]
  return name if size % _size(mesh, name) == 0 else None


def num_parts(mesh: jax.sharding.AbstractMesh, axis: str,
              size: int | None = None) -> int:
  """Into how many parts a logical axis is cut, of a size that may stay whole.
  """
  if size is not None:
    return _size(mesh, cut(mesh, axis, size))
  return _size(mesh, nn.logical_to_mesh_axes((axis,))[0])


def _size(mesh: jax.sharding.AbstractMesh,
          name: str | tuple[str, ...] | None) -> int:
  parts = 1
  for part in (name,) if isinstance(name, str) else tuple(name or ()):
    parts *= mesh.shape[part]
  return parts
