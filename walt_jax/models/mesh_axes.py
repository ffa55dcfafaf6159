"""Axes of the mesh that is active, for what each device does by itself."""
import jax
from jax.sharding import AxisType


def free(mesh: jax.sharding.AbstractMesh) -> frozenset[str]:
  """The axes that no `jax.shard_map` around this place has cut already."""
  return frozenset(
      name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
      if kind != AxisType.Manual)
