"""Mesh shapes and the rows that a process reads."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.core import errors
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost


class MeshTest(parameterized.TestCase):

  @parameterized.parameters(
      ((-1, 1, 1), 8, (8, 1, 1)), ((2, -1, 2), 8, (2, 2, 2)),
      ((1, 1, 1), 1, (1, 1, 1)))
  def test_fills_in_the_remaining_axis(self, asked, devices, expected):
    self.assertEqual(mesh_lib.mesh_shape(*asked, devices), expected)

  @parameterized.parameters(
      ((-1, -1, 1), 8, 'only one'), ((3, -1, 1), 8, 'mesh.data=3'),
      ((2, 2, 1), 8, '8 device'), ((0, 1, 1), 1, 'positive'))
  def test_wrong_shapes_are_user_errors(self, asked, devices, message):
    with self.assertRaisesRegex(errors.UserError, message):
      mesh_lib.mesh_shape(*asked, devices)

  def test_rows_of_one_process_and_global_batch(self):
    mesh = mesh_lib.make_mesh(2, 2, 2, jax.devices()[:8])
    self.assertEqual(multihost.process_rows(mesh, 12), (0, 12))
    with self.assertRaisesRegex(ValueError, '6 rows'):
      multihost.process_rows(mesh, 6)
    batch = multihost.global_batch({'x': np.arange(8)}, mesh)
    np.testing.assert_array_equal(batch['x'], np.arange(8))
    self.assertEqual(batch['x'].addressable_shards[0].data.shape, (2,))


if __name__ == '__main__':
  absltest.main()
