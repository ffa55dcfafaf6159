"""Rows and arrays of a mesh, there and back, in one process."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost

MESHES = ((8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 1, 8))


class MultihostTest(parameterized.TestCase):

  def mesh(self, *shape):
    return mesh_lib.make_mesh(*shape, jax.devices()[:8])

  @parameterized.parameters(*MESHES)
  def test_rows_come_back_in_their_order(self, *shape):
    rows = np.arange(48.0).reshape(16, 3)
    batch = multihost.global_batch(dict(x=rows), self.mesh(*shape))
    shards = shape[0] * shape[1]
    for shard in batch['x'].addressable_shards:
      self.assertEqual(shard.data.shape, (16 // shards, 3))
    np.testing.assert_array_equal(multihost.local_rows(batch)['x'], rows)
    np.testing.assert_array_equal(multihost.fetch(batch)['x'], rows)

  def test_rows_that_do_not_divide_are_refused(self):
    with self.assertRaisesRegex(ValueError, '6 rows.*= 4'):
      multihost.global_batch(np.zeros((6, 2)), self.mesh(2, 2, 2))

  def test_put_cuts_an_array_as_asked_and_fetch_joins_it(self):
    mesh = self.mesh(2, 2, 2)
    array = np.arange(32.0).reshape(8, 4)
    placed = multihost.put(
        array, NamedSharding(mesh, P('fsdp', 'tensor')))
    self.assertEqual({shard.data.shape for shard in placed.addressable_shards},
                     {(4, 2)})
    np.testing.assert_array_equal(multihost.fetch(placed), array)

  @parameterized.parameters(np.float64, np.int64, np.uint8, np.bool_)
  def test_gathering_keeps_type_and_every_bit(self, dtype):
    value = np.array([[1 / 3, 2.0], [0.0, 1e9]]).astype(dtype)
    found = multihost.gather(value)
    self.assertEqual(found.dtype, dtype)
    np.testing.assert_array_equal(found, value[None])

  def test_sums_and_maxima_of_large_numbers_are_exact(self):
    self.assertEqual(multihost.total(2**100 + 1), 2**100 + 1)
    self.assertEqual(multihost.largest(2**53 + 1), 2**53 + 1)


if __name__ == '__main__':
  absltest.main()
