"""What a config's training says of how its stage draws."""
import json
import pathlib
import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from tests.e2e import tiny
from walt_jax.builders import config as config_lib
from walt_jax.builders import objectives
from walt_jax.builders import pipelines
from walt_jax.builders import schema
from walt_jax.core import types
from walt_jax.diffusion import guidance
from walt_jax.diffusion import noise
from walt_jax.parallel import mesh as mesh_lib

EXPORT = pathlib.Path(__file__).parents[1] / 'golden' / 'files' / 'export'
CHANNELS = 4


def config_of(probability: float, factorized: bool) -> schema.Experiment:
  """A small base that has the input for its own estimates."""
  config = config_lib.load(f'{tiny.QUICKSTART}:smoke')
  config.data.image_rows = 4
  config.latents.update(frames=2, height=4, width=4, channels=CHANNELS)
  config.model.update(
      width=16, num_heads=1, mlp_width=32, patch=1, spatial_window=(1, 4, 4),
      spacetime_window=(2, 2, 2), self_condition=True, frame_condition=True)
  config.diffusion.update(
      self_condition_probability=probability,
      frame_condition_probability=0.5, frame_condition_lengths=(1,))
  config.sampler.update(num_steps=2, factorized=factorized)
  return schema.of(config)


class SelfConditioningTest(parameterized.TestCase):

  @parameterized.parameters((0.0, False), (0.0, True), (0.3, True))
  def test_estimates_go_only_where_training_gave_them(
      self, probability, factorized):
    """Weights that never had a gradient do not touch a sample."""
    config = config_of(probability, factorized)
    objective = objectives.objective(config, 'cpu')
    stage = objectives.stage_sampler_of(objective, config)
    example = jnp.zeros((1, *stage.shape)), jnp.ones((1, 1))
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32),
        jax.eval_shape(objective.denoiser.init, jax.random.key(0), *example,
                       types.Conditioning())['params'])
    # Channels into the projection: noisy latents, own estimate, the rest.
    kernel = params['patch_projection']['kernel'].copy()
    kernel[CHANNELS:2 * CHANNELS] = random.standard_normal(
        (CHANNELS, config.model.width))
    changed = params | dict(
        patch_projection=params['patch_projection'] | dict(kernel=kernel))
    draw = jax.jit(stage.make(
        objectives.stage_settings(config).options, guidance.Guidance()))
    keys = noise.row_keys(jax.random.key(1), 2)
    samples = [np.asarray(draw(p, keys, types.Conditioning(), 0.0))
               for p in (params, changed)]
    difference = np.abs(samples[0] - samples[1]).max()
    if probability:
      self.assertGreater(difference, 0.1)
    else:
      self.assertEqual(difference, 0)

  @parameterized.parameters((0.0, False), (0.5, True))
  def test_an_older_export_is_drawn_as_it_was_trained(
      self, probability, expected):
    folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'export'
    shutil.copytree(EXPORT, folder)
    path = folder / 'config.json'
    config = json.loads(path.read_text())
    self.assertTrue(config['model']['self_condition'])
    config['diffusion']['self_condition_probability'] = probability
    path.write_text(json.dumps(config))
    pipeline = pipelines.load_pipeline([str(folder)], mesh_lib.make_mesh())
    self.assertEqual(pipeline.stages[0].sampler.self_condition, expected)


if __name__ == '__main__':
  absltest.main()
