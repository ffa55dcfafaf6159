"""What a config's training says of how its stage draws."""
import functools
import json
import pathlib
import shutil
import tempfile
import types as types_lib

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
from walt_jax.sampling import cascade
from walt_jax.sampling import requests

EXPORT = pathlib.Path(__file__).parents[1] / 'golden' / 'files' / 'export'
CHANNELS = 4
# Compiling is what these tests spend their time on.
quick_jit = functools.partial(jax.jit, compiler_options={
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True})


def config_of(probability: float, factorized: bool,
              drop_label: float = 0.2) -> schema.Experiment:
  """A small base that has the input for its own estimates."""
  config = config_lib.load(f'{tiny.QUICKSTART}:smoke')
  config.data.image_rows = 4
  config.latents.update(frames=2, height=4, width=4, channels=CHANNELS)
  config.model.update(
      width=16, num_heads=1, mlp_width=32, patch=1, spatial_window=(1, 4, 4),
      spacetime_window=(2, 2, 2), self_condition=True, frame_condition=True)
  config.diffusion.update(
      self_condition_probability=probability, drop_label=drop_label,
      frame_condition_probability=0.5, frame_condition_lengths=(1,))
  config.sampler.update(num_steps=2, factorized=factorized)
  return schema.of(config)


def random_params(objective, shape) -> dict:
  """Parameters of the denoiser, without zeros."""
  random = np.random.default_rng(0)
  return jax.tree.map(
      lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32),
      jax.eval_shape(
          objective.denoiser.init, jax.random.key(0),
          jnp.zeros((1, *shape)), jnp.ones((1, 1)),
          types.Conditioning())['params'])


class SelfConditioningTest(parameterized.TestCase):

  @parameterized.parameters((0.0, False), (0.0, True), (0.3, True))
  def test_estimates_go_only_where_training_gave_them(
      self, probability, factorized):
    """Weights that never had a gradient do not touch a sample."""
    config = config_of(probability, factorized)
    objective = objectives.objective(config, 'cpu')
    stage = objectives.stage_sampler_of(objective, config)
    params = random_params(objective, stage.shape)
    # Channels into the projection: noisy latents, own estimate, the rest.
    kernel = params['patch_projection']['kernel'].copy()
    kernel[CHANNELS:2 * CHANNELS] = np.random.default_rng(1).normal(size=
        (CHANNELS, config.model.width))
    changed = params | dict(
        patch_projection=params['patch_projection'] | dict(kernel=kernel))
    draw = quick_jit(stage.make(
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


class NoLabelTest(absltest.TestCase):
  """No label is the id behind the last class, never class 0."""

  def setUp(self):
    super().setUp()
    self.config = config_of(0.0, factorized=False)
    self.objective = objectives.objective(self.config, 'cpu')
    self.stage = objectives.stage_sampler_of(self.objective, self.config)
    self.params = random_params(self.objective, self.stage.shape)

  def test_guidance_of_scale_0_draws_without_the_label(self):
    keys = noise.row_keys(jax.random.key(1), 2)
    options = objectives.stage_settings(self.config).options
    plain, ignoring = (
        quick_jit(self.stage.make(options, guidance.Guidance(label=scale)))
        for scale in (1.0, 0.0))
    label = lambda i: types.Conditioning(label=jnp.full((2, 1), i))
    draw = lambda draw, conditioning: np.asarray(
        draw(self.params, keys, conditioning, 0.0))
    without = draw(plain, label(self.config.model.num_classes))
    np.testing.assert_allclose(draw(ignoring, label(3)), without, atol=1e-5)
    self.assertGreater(np.abs(draw(plain, label(0)) - without).max(), 0.1)

  def test_training_drops_to_the_null_label(self):
    dropping, never = (
        quick_jit(objectives.objective(
            config_of(0.0, False, chance), 'cpu').loss)
        for chance in (1.0, 0.0))
    loss = lambda program, label: float(program(
        self.params, types.LatentBatch(
            latents=np.random.default_rng(2).normal(
                size=(2, *self.stage.shape)).astype(np.float32),
            is_image=np.array([False, True]),
            label=np.full((2, self.stage.shape[0]), label)),
        jax.random.key(3))[0])
    classes = self.config.model.num_classes
    self.assertAlmostEqual(loss(dropping, 3), loss(never, classes), places=5)
    self.assertNotAlmostEqual(loss(never, 0), loss(never, classes), places=3)

  def test_a_request_without_a_label(self):
    stage = types_lib.SimpleNamespace(
        classes=('zero', 'one'), sampler=types_lib.SimpleNamespace(
            denoiser=types_lib.SimpleNamespace(num_classes=2)))
    ids = cascade._label_ids(
        stage, [requests.Request(label='zero'), requests.Request(prompt='a'),
                requests.Request(label='one')])
    np.testing.assert_array_equal(ids, [[0], [2], [1]])


if __name__ == '__main__':
  absltest.main()
