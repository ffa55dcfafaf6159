"""Clips that the super-resolution benchmark redraws."""
import types

from absl.testing import absltest
import numpy as np

from benchmarks import super_resolution
from walt_jax.diffusion import samplers
from walt_jax.diffusion import schedules
from walt_jax.sampling import requests as requests_lib


class RedrawTest(absltest.TestCase):

  def test_clips_of_unit_normal_latents_stay_so(self):
    latents = np.random.default_rng(0).normal(
        size=(16, 2, 4, 4, 8)).astype(np.float32)
    # Whatever rule the run samples by.
    options = samplers.SamplerOptions('dpmpp_2m', num_steps=12)
    stage = types.SimpleNamespace(
        classes=('zero',), params=types.SimpleNamespace(get=dict),
        defaults=types.SimpleNamespace(options=options),
        sampler=types.SimpleNamespace(
            schedule=schedules.linear(),
            denoiser=types.SimpleNamespace(
                apply=lambda params, x, timestep, conditioning: x),
            prediction=types.SimpleNamespace(  # The mean, given x.
                x_0=lambda out, x, alpha, sigma: alpha * x)))
    pipeline = types.SimpleNamespace(
        stages=[stage], text=types.SimpleNamespace(embed=lambda prompts: (
            np.zeros((len(prompts), 1, 1)), np.ones((len(prompts), 1)))))
    requests = [requests_lib.Request(label='zero')] * len(latents)
    redrawn = super_resolution.redraw(pipeline, latents, requests, 0.3)
    # A step takes the cosine of the angle between its two ends: 0.906 in all.
    self.assertAlmostEqual(redrawn.std(), 0.906, delta=0.03)
    # What is left of the clip at that level: its alpha.
    self.assertAlmostEqual(np.corrcoef(
        redrawn.ravel(), latents.ravel())[0, 1], 0.722, delta=0.03)


if __name__ == '__main__':
  absltest.main()
