"""What partition rules say of each leaf, before a mesh has its say."""
import jax

from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition


def tree_specs(tree, rules: partition.Rules):
  """Maps each leaf to its PartitionSpec; one device divides every axis."""
  mesh = mesh_lib.make_mesh(1, 1, 1, jax.devices()[:1])
  return jax.tree.map(lambda sharding: sharding.spec,
                      partition.tree_shardings(tree, mesh, rules))
