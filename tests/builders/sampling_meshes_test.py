"""Which mesh trained stages draw on, and how their weights lie there."""
import argparse
import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import jax

from walt_jax.builders import config as config_lib
from walt_jax.builders import meshes
from walt_jax.builders import objectives
from walt_jax.builders import sampling_meshes
from walt_jax.builders import schema
from walt_jax.commands.flags import values
from walt_jax.core import errors


def config_of(**mesh) -> schema.DenoiserExperiment:
  config = schema.of(config_lib.load('quickstart:smoke'))
  return dataclasses.replace(config, mesh=schema.Mesh(**mesh))


class SamplingMeshesTest(parameterized.TestCase):

  @parameterized.parameters(
      (dict(data=2, fsdp=4), None, 8, (2, 4, 1)),
      (dict(data=1, fsdp=-1), None, 4, (1, 4, 1)),
      (dict(data=2, fsdp=4), dict(tensor=2), 8, (4, 1, 2)),
      (dict(), dict(data=1, fsdp=2, tensor=4), 8, (1, 2, 4)),
      # Of a run on more devices: weights that it cut are cut here, too.
      (dict(data=2, fsdp=8), None, 4, (1, 4, 1)),
      (dict(data=16), None, 4, (4, 1, 1)),
      (dict(data=2, fsdp=8), None, 1, (1, 1, 1)))
  def test_the_runs_own_unless_another_is_asked_for(
      self, own, asked, count, expected):
    mesh = sampling_meshes.sampling_mesh(
        config_of(**own), asked, jax.devices()[:count])
    self.assertEqual(tuple(mesh.shape.values()), expected)

  def test_what_is_asked_for_and_does_not_fit_is_refused(self):
    with self.assertRaisesRegex(errors.UserError, 'does not fill 4 device'):
      sampling_meshes.sampling_mesh(
          config_of(), dict(data=1, fsdp=8), jax.devices()[:4])

  def test_an_axis_that_cuts_no_heads_is_refused(self):
    config = config_of()
    denoiser = objectives.objective(config, 'cpu').denoiser
    check = lambda context: sampling_meshes.check_context(
        config, denoiser, sampling_meshes.sampling_mesh(
            config, dict(context=context), jax.devices()[:8]))
    check(1)
    check(2)
    with self.assertRaisesRegex(
        errors.UserError, 'mesh.context=8 .* these sizes serve: 1, 2'):
      check(8)
    with self.assertRaisesRegex(errors.UserError, 'for sampling alone'):
      meshes.check_training(config_of(context=2))

  @parameterized.parameters(
      (dict(data=4), r'whole, (.*) GiB a device', 1),
      (dict(data=1, fsdp=4),
       r'\d+% cut over fsdp 4, gathered layer by layer, (.*) GiB a device', 4),
      (dict(data=2, tensor=2),
       r'cut by heads and MLP units over tensor 2, (.*) GiB a device', 1.4))
  def test_weights_are_told(self, mesh, words, least_cut):
    config = config_of(**mesh)
    found = {}
    for count, sizes in ((1, dict(data=1)), (4, mesh)):
      found[count] = sampling_meshes.weights_words(
          config, sampling_meshes.sampling_mesh(
              config, sizes, jax.devices()[:count]))
    self.assertRegex(found[4], rf'\A{words}\Z')
    bytes_of = lambda text: float(text.split()[-4])
    self.assertLessEqual(
        bytes_of(found[4]), 1.2 * bytes_of(found[1]) / least_cut)

  @parameterized.parameters(
      ('fsdp=8,tensor=2', dict(fsdp=8, tensor=2)),
      ('context=4', dict(context=4)), ('data=-1', dict(data=-1)))
  def test_flag(self, text, sizes):
    self.assertEqual(values.mesh(text), sizes)

  @parameterized.parameters('fsdp', 'rows=2', 'fsdp=2,fsdp=2', 'data=0', '')
  def test_flag_refusals(self, text):
    with self.assertRaises(argparse.ArgumentTypeError):
      values.mesh(text)


if __name__ == '__main__':
  absltest.main()
