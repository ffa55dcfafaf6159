"""Every stage learns and samples alike on one device and on every mesh."""
import functools
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tests.e2e import mesh_samples
from tests.e2e import tiny
from walt_jax.core import run_files
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.training import checkpoint_params

_MESHES = ((8, 1, 1), (1, 8, 1), (2, 2, 2))
_ONE = (1, 1, 1)
# Two steps on each mesh: the second's loss shows what the first one learned.
_LEG = 2
# Each begins on another mesh, where its parameters are then drawn.
_ROUTES = {'tokenizer': (0, 1, 2), 'base': (1, 2, 0), 'sr': (2, 0, 1)}
# Sums over devices round in another order; steps of Adam spread it.
_TOLERANCE = 1e-4
# Two heads, so that `tensor` cuts attention too.
_CHANGES = {
    'tokenizer': {},
    'base': dict(model__num_heads=2, optimizer__name='muon',
                 data__image_rows=8, data__batch_size=16,
                 train__eval_every=_LEG, train__eval_samples=0),
    'sr': dict(model__num_heads=2, train__eval_every=0),
}


def logged(workdir, name) -> np.ndarray:
  """(step, value) of every line of metrics that has such a value."""
  return np.array([(line['step'], line[name]) for line in
                   run_files.read_metrics(workdir).lines if name in line])


class StageTest(parameterized.TestCase):

  @parameterized.parameters('tokenizer', 'base', 'sr')
  def test_a_run_goes_on_from_mesh_to_mesh(self, stage):
    """Steps on each mesh, and on one device at the end, are one unbroken run.

    The base's batches have images beside videos; it is evaluated on each mesh.
    """
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    one, moved = folder / 'one', folder / 'moved'
    num_steps = _LEG * len(_MESHES) + 1
    tiny.train(stage, one, num_steps, **_CHANGES[stage])
    names = ['train/loss', *(['eval/v_loss'] if stage == 'base' else [])]
    step = 0
    for shape in (*(_MESHES[index] for index in _ROUTES[stage]), _ONE):
      step = min(step + _LEG, num_steps)
      mesh = {f'mesh__{name}': size
              for name, size in zip(mesh_lib.AXES, shape, strict=True)}
      tiny.train(stage, moved, step, devices=int(np.prod(shape)),
                 **_CHANGES[stage], **mesh)
      for name in names:
        found, expected = logged(moved, name), logged(one, name)
        self.assertEqual(found[-1, 0], step)
        np.testing.assert_allclose(
            found, expected[:len(found)], rtol=_TOLERANCE, err_msg=f'{shape}')


@functools.cache
def drawn_on(shape) -> np.ndarray:
  """Samples of a mesh of so many devices, the last axis for tokens if any."""
  return mesh_samples.draw_on(mesh_lib.make_mesh(
      *shape[:3], devices=jax.devices()[:int(np.prod(shape))],
      context=int(np.prod(shape[3:]))))


class SamplesTest(parameterized.TestCase):

  @parameterized.parameters(*_MESHES, (2, 2, 1, 2))
  def test_samples_of_a_mesh_are_those_of_one_device(self, *shape):
    one = drawn_on(_ONE)
    self.assertGreater(one.std(), 0.1)
    np.testing.assert_allclose(drawn_on(shape), one, rtol=1e-3, atol=1e-4)


class RestoreTest(absltest.TestCase):

  def test_parameters_restore_onto_a_mesh(self):
    workdir = tiny.run('base')
    mesh = mesh_lib.make_mesh(2, 2, 2, devices=jax.devices()[:8])
    here = checkpoint_params.restore_params(workdir)
    there = checkpoint_params.restore_params(
        workdir, mesh=mesh, rules=partition.DENOISER_RULES)
    jax.tree.map(np.testing.assert_array_equal, here, jax.device_get(there))
    kernel = there['layers']['spatial']['mlp']['mlp_in']['kernel']
    self.assertEqual(kernel.addressable_shards[0].data.shape[1:],
                     (kernel.shape[1] // 2, kernel.shape[2] // 2))


if __name__ == '__main__':
  absltest.main()
