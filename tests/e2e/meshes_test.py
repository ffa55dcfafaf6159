"""Every stage learns and samples alike on one device and on every mesh."""
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tests.e2e import mesh_samples
from tests.e2e import tiny
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.training import checkpoints as checkpoints_lib

_STEPS = 5
_MESHES = ((8, 1, 1), (1, 8, 1), (2, 2, 2))
# Sums over devices round in another order; five steps of Adam spread it.
_TOLERANCE = 1e-4
# Two heads, so that `tensor` cuts attention too.
_CHANGES = {
    'tokenizer': {},
    'base': dict(model__num_heads=2, train__eval_every=0,
                 optimizer__name='muon'),
    'sr': dict(model__num_heads=2),
}


class StageTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory()))

  def one_device(self, stage) -> pathlib.Path:
    workdir = self.folder / stage
    if not workdir.exists():
      tiny.train(stage, workdir, _STEPS, **_CHANGES[stage])
    return workdir

  @parameterized.product(stage=('tokenizer', 'base', 'sr'), shape=_MESHES)
  def test_losses_of_five_steps(self, stage, shape):
    one = self.one_device(stage)
    workdir = self.folder / f'{stage}_{"x".join(map(str, shape))}'
    mesh = {f'mesh__{name}': size
            for name, size in zip(mesh_lib.AXES, shape, strict=True)}
    tiny.train(stage, workdir, _STEPS, devices=8, **_CHANGES[stage], **mesh)
    self.assertLen(tiny.losses(workdir), _STEPS)
    np.testing.assert_allclose(
        tiny.losses(workdir), tiny.losses(one), rtol=_TOLERANCE)
    # What one mesh wrote, another continues with.
    if shape == (2, 2, 2):
      tiny.train(stage, workdir, _STEPS + 1, **_CHANGES[stage])
      tiny.train(stage, one, _STEPS + 1, **_CHANGES[stage])
      np.testing.assert_allclose(
          tiny.losses(workdir), tiny.losses(one), rtol=_TOLERANCE)


class MeshToMeshTest(absltest.TestCase):

  def test_a_run_goes_on_from_mesh_to_mesh(self):
    """A step on each, and on the first again, is one unbroken run."""
    route = (*_MESHES, _MESHES[0])
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    tiny.train('base', folder / 'one', len(route), **_CHANGES['base'])
    for step, shape in enumerate(route, start=1):
      mesh = {f'mesh__{name}': size
              for name, size in zip(mesh_lib.AXES, shape, strict=True)}
      tiny.train('base', folder / 'moved', step, devices=8,
                 **_CHANGES['base'], **mesh)
    np.testing.assert_allclose(tiny.losses(folder / 'moved'),
                               tiny.losses(folder / 'one'), rtol=_TOLERANCE)


class SamplesTest(parameterized.TestCase):

  @parameterized.parameters(*_MESHES)
  def test_samples_of_a_mesh_are_those_of_one_device(self, *shape):
    def draw(*shape):
      count = int(np.prod(shape))
      return mesh_samples.draw_on(
          mesh_lib.make_mesh(*shape, devices=jax.devices()[:count]))

    one = draw(1, 1, 1)
    self.assertGreater(one.std(), 0.1)
    np.testing.assert_allclose(draw(*shape), one, rtol=1e-3, atol=1e-4)


class RestoreTest(absltest.TestCase):

  def test_parameters_restore_onto_a_mesh(self):
    workdir = tiny.run('base')
    mesh = mesh_lib.make_mesh(2, 2, 2, devices=jax.devices()[:8])
    here = checkpoints_lib.restore_params(workdir)
    there = checkpoints_lib.restore_params(
        workdir, mesh=mesh, rules=partition.DENOISER_RULES)
    jax.tree.map(np.testing.assert_array_equal, here, jax.device_get(there))
    kernel = there['layers']['spatial']['mlp']['mlp_in']['kernel']
    self.assertEqual(kernel.addressable_shards[0].data.shape[1:],
                     (kernel.shape[1] // 2, kernel.shape[2] // 2))


if __name__ == '__main__':
  absltest.main()
