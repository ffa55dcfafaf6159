"""Mesh shapes and the rows that a process reads."""
import collections
from unittest import mock

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

  def test_data_goes_over_slices_outermost(self):
    devices = jax.devices()[:8]
    slices = [devices[1::2], devices[::2]]  # In an order of their own.
    self.enterContext(mock.patch.object(
        mesh_lib, 'by_slice', return_value=slices))
    mesh = mesh_lib.make_mesh(4, 2, 1)
    for number, one in enumerate(slices):
      self.assertCountEqual(mesh.devices[2 * number:2 * number + 2].flat, one)
    self.assertEqual(dict(mesh.shape), dict(data=4, fsdp=2, tensor=1))
    # Rows of a batch: the first half lies on the first slice.
    rows = mesh_lib.batch_sharding(mesh).devices_indices_map((8,))
    self.assertCountEqual(
        [rows[device][0].start for device in slices[0]], range(4))
    self.assertIn('8 x cpu in 2 slices', mesh_lib.words(mesh))
    with self.assertRaisesRegex(
        errors.UserError, '2 slices of 4.*mesh.data a multiple of 2'):
      mesh_lib.make_mesh(1, 8, 1)

  def test_slices_by_their_numbers(self):
    device = collections.namedtuple('device', 'slice_index')
    self.assertEqual(mesh_lib.by_slice([device(1), device(0), device(1),
                                        device(0)]),
                     [[device(0)] * 2, [device(1)] * 2])
    self.assertLen(mesh_lib.by_slice(jax.devices()), 1)
    with self.assertRaisesRegex(errors.UserError, r'slices of \[1, 2\]'):
      mesh_lib.by_slice([device(0), device(1), device(1)])

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
