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
      ((-1, -1, 1), 8, 'only one'),
      ((3, -1, 1), 8, r'mesh.data=3.* 8 device\(s\), of which 3 is no divisor'),
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

  def test_an_axis_for_tokens_only_if_asked_for(self):
    mesh = mesh_lib.make_mesh(-1, 2, devices=jax.devices()[:8], context=2)
    self.assertEqual(dict(mesh.shape),
                     dict(data=2, fsdp=2, tensor=1, context=2))
    self.assertEqual((mesh_lib.num_batch_shards(mesh),
                      mesh_lib.num_context_parts(mesh)), (4, 2))
    self.assertNotIn('context', mesh_lib.make_mesh().shape)
    with self.assertRaisesRegex(errors.UserError, 'context=3 does not div'):
      mesh_lib.make_mesh(devices=jax.devices()[:8], context=3)

  @parameterized.parameters(
      # Rows, passes, rows that are drawn, whether they are cut.
      (1, 1, 4, True), (1, 2, 4, True), (2, 2, 2, False), (1, 4, 1, False),
      (4, 1, 4, True), (5, 2, 8, True), (8, 1, 8, True))
  def test_rows_that_are_drawn(self, rows, passes, drawn, is_cut):
    mesh = mesh_lib.make_mesh(2, 2, devices=jax.devices()[:4])
    self.assertEqual(mesh_lib.drawn_rows(mesh, rows, passes), drawn)
    self.assertEqual(
        mesh_lib.drawn_sharding(mesh, drawn).is_fully_replicated, not is_cut)

  def test_slices_by_their_numbers(self):
    device = collections.namedtuple('device', 'slice_index')
    self.assertEqual(mesh_lib.by_slice([device(1), device(0), device(1),
                                        device(0)]),
                     [[device(0)] * 2, [device(1)] * 2])
    self.assertLen(mesh_lib.by_slice(jax.devices()), 1)
    with self.assertRaisesRegex(errors.UserError, r'slices of \[1, 2\]'):
      mesh_lib.by_slice([device(0), device(1), device(1)])

  def test_slices_as_configured(self):
    """Devices that tell no slice, such as CPUs, are cut into neighbours."""
    devices = jax.devices()[:8]
    self.assertEqual(mesh_lib.by_slice(devices, 4),
                     [devices[i:i + 2] for i in range(0, 8, 2)])
    mesh = mesh_lib.make_mesh(-1, 2, 1, devices, slices=4)
    for number in range(4):
      self.assertCountEqual(mesh.devices[number].flat,
                            devices[2 * number:2 * number + 2])
    self.assertEqual(mesh_lib.slow_axis(mesh, 4), 'data')
    self.assertIsNone(mesh_lib.slow_axis(mesh))
    with self.assertRaisesRegex(errors.UserError, 'mesh.slices is 3, but 8'):
      mesh_lib.by_slice(devices, 3)
    with self.assertRaisesRegex(errors.UserError, '4 slices of 2'):
      mesh_lib.make_mesh(2, 4, 1, devices, slices=4)

  def test_rows_follow_the_slices_of_processes(self):
    """Two hosts a slice, whose numbers do not follow the slices'."""
    devices = jax.devices()[:8]
    hosts = [2, 2, 0, 0, 3, 3, 1, 1]  # Of the devices in the mesh's order.
    mesh = mesh_lib.make_mesh(-1, 4, 1, devices, slices=2)
    host_of = dict(zip(mesh.devices.flat, hosts, strict=True))
    sharding = mesh_lib.batch_sharding(mesh)
    whole = sharding.devices_indices_map((16,))
    for host, rows in ((2, (0, 4)), (0, (4, 8)), (3, (8, 12)), (1, (12, 16))):
      own = {device: index for device, index in whole.items()
             if host_of[device] == host}
      with mock.patch.object(
          jax.sharding.NamedSharding, 'addressable_devices_indices_map',
          return_value=own):
        self.assertEqual(multihost.process_rows(mesh, 16), rows)

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
