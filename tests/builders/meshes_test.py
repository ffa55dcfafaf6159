"""The state of every paper config is cut well on 16 to 512 chips."""
import dataclasses
import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax

from tests import config_programs as programs
from walt_jax.builders import meshes
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.parallel import cuts
from walt_jax.parallel import mesh as mesh_lib

_CONFIGS = ('t2v_base', 't2v_base_9x16', 't2v_sr1', 't2v_sr2', 'ucf101',
            'ucf101:l', 'imagenet256', 'k600', 'tokenizer_video',
            'tokenizer_image')
_CHIPS = (16, 32, 64, 128, 256, 512)
_GIB = 1 << 30


def laid_out(config, **axes):
  return dataclasses.replace(config, mesh=schema.Mesh(**axes))


@functools.cache
def state_of(config):
  return meshes.state_of(config, 'tpu')


class MeshesTest(parameterized.TestCase):

  @parameterized.parameters(*_CONFIGS)
  def test_a_chip_holds_little_of_the_state(self, name):
    config = laid_out(programs.load(name))
    state, rules = state_of(config)
    for chips in _CHIPS:
      if config.data.batch_size % chips or config.data.image_rows % chips:
        continue
      found = cuts.cut(
          state, dict(fsdp=cuts.largest_fsdp(state, chips, 1, rules),
                      tensor=1), rules)
      self.assertGreaterEqual(found.share, 0.95)
      self.assertLessEqual(
          found.device_bytes, max(1.3 * found.total_bytes / chips, _GIB))

  def test_what_fsdp_leaves_goes_to_data(self):
    sizes = lambda mesh: (mesh.data, mesh.fsdp, mesh.tensor)
    base = programs.load('t2v_base')
    self.enterContext(mock.patch.object(
        meshes, 'state_of', lambda *_: state_of(laid_out(base))))
    for chips, expected in ((64, (1, 64, 1)), (512, (2, 256, 1))):
      self.assertEqual(
          sizes(meshes.with_sizes(base, chips, 'tpu').mesh), expected)
    two = meshes.with_sizes(base, 128, 'tpu', num_slices=2)
    self.assertEqual(sizes(two.mesh), (2, 64, 1))
    wide = laid_out(base, data=2, fsdp=-1, tensor=2)
    self.assertEqual(
        sizes(meshes.with_sizes(wide, 64, 'tpu').mesh), (2, 16, 2))

  def test_sizes_that_cut_nothing_are_refused(self):
    config = laid_out(programs.load('ucf101'), data=-1, fsdp=512)
    with self.assertRaisesRegex(
        errors.UserError, 'mesh.fsdp is 512, .*set mesh.fsdp=128, or'):
      meshes.with_sizes(config, 512, 'tpu')

  def test_devices_that_share(self):
    config = laid_out(programs.load('ucf101:smoke'), data=2, fsdp=-1)
    mesh = meshes.mesh_of(config, jax.devices()[:8])
    self.assertEqual(dict(mesh.shape), dict(data=2, fsdp=4, tensor=1))
    self.assertEqual(mesh.axis_names, mesh_lib.AXES)


if __name__ == '__main__':
  absltest.main()
