"""Weights in the type that a sampler computes in: the same samples."""
import functools

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.core import types
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction
from walt_jax.diffusion import samplers
from walt_jax.diffusion import schedules
from walt_jax.models import compute_type
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import pipeline
from walt_jax.sampling import stage_sampler

B = 2
SHAPE = (3, 4, 4, 2)


class WeightsTest(absltest.TestCase):

  def test_samples_of_cast_weights_are_the_same_bit_for_bit(self):
    model = denoiser_lib.Denoiser(
        width=16, depth=2, num_heads=2, mlp_width=32, patch=1,
        spatial_window=(1, 4, 4), spacetime_window=(3, 2, 2), num_classes=5,
        dtype=jnp.bfloat16)
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32),
        jax.eval_shape(
            model.init, jax.random.key(0), np.zeros((1, *SHAPE)),
            np.ones((1, 1)), types.Conditioning())['params'])
    stage = stage_sampler.StageSampler(
        model, schedules.linear(), prediction.Prediction('v'), SHAPE,
        self_condition=True)
    draw = jax.jit(stage.make(
        samplers.SamplerOptions(num_steps=3), guidance_lib.Guidance(label=2.)))
    draw = functools.partial(
        draw, keys=noise.row_keys(jax.random.key(1), B),
        conditioning=types.Conditioning(label=jnp.asarray([[0], [3]])),
        level=jnp.float32(0))
    held = pipeline.StageParams(
        lambda: jax.tree.map(jnp.array, params),
        lambda tree: str({str(leaf.dtype) for leaf in jax.tree.leaves(tree)}),
        functools.partial(compute_type.cast_in_turns, model))
    np.testing.assert_array_equal(draw(held.get()), draw(params))
    self.assertEqual(held.sha256, "{'float32'}")  # Of what was read.
    size = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    self.assertLess(size(held.get()), 0.85 * size(params))

  def test_plans_take_the_types_that_sampling_holds(self):
    config = config_lib.load('configs/ucf101.py:l')
    run = absent_runs.absent_run(config, mesh_lib.make_mesh(-1, 1, 1), 'tpu')
    kernels = lambda tree: tree['layers']['spatial']['mlp']['mlp_in']['kernel']
    self.assertEqual(kernels(run.draw_params).dtype, jnp.bfloat16)
    self.assertEqual(kernels(run.state.params).dtype, jnp.float32)
    self.assertEqual(run.draw_params['patch_projection']['kernel'].dtype,
                     jnp.float32)


if __name__ == '__main__':
  absltest.main()
