"""What may be chosen for each stage, and what its config says otherwise."""
import dataclasses
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from tests.sampling import cascade_test
from walt_jax.core import errors
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import samplers
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import settings

_SAYS = (
    pipeline_lib.StageSettings(
        samplers.SamplerOptions('dpmpp_2m', 12),
        guidance_lib.Guidance(label=1.5, text=1.75, schedule='power_cosine')),
    pipeline_lib.StageSettings(
        samplers.SamplerOptions('ddim', 7), guidance_lib.Guidance(text=3.0),
        0.3))


def _chosen(most_noise=0.3, **choice) -> list[pipeline_lib.StageSettings]:
  """Settings of a base and a stage on it, whose configs say `_SAYS`."""
  pipeline = cascade_test.pipeline_of(
      ('base', (1, 2)), ('add', ()), text=cascade_test.Codes())
  stages = tuple(
      dataclasses.replace(stage, defaults=says, classes=classes,
                          most_noise=most_noise)
      for stage, says, classes in zip(
          pipeline.stages, _SAYS, (('seven',), ()), strict=True))
  with mock.patch.object(
      cascade_test.CountingSampler, 'schedule',
      types.SimpleNamespace(path=lambda num_steps: None)):
    return settings.stage_settings(
        settings.SamplerChoice(**choice),
        dataclasses.replace(pipeline, stages=stages))


class SettingsTest(parameterized.TestCase):

  @parameterized.parameters(
      # What is asked; sampler, steps, scales, noise level of both stages.
      ({}, ('dpmpp_2m', 12, {'label': 1.5, 'text': 1.75}, 0.0),
       ('ddim', 7, {'text': 3.0}, 0.3)),
      (dict(guidance=[{'text': 2.0}]),
       ('dpmpp_2m', 12, {'text': 2.0}, 0.0), ('ddim', 7, {'text': 2.0}, 0.3)),
      (dict(guidance=[{}]),
       ('dpmpp_2m', 12, {}, 0.0), ('ddim', 7, {}, 0.3)),
      (dict(guidance=[{'label': 4.0}]),  # The second stage has no labels.
       ('dpmpp_2m', 12, {'label': 4.0}, 0.0), ('ddim', 7, {}, 0.3)),
      (dict(guidance=[{'frames': 2.0}, {'text': 1.0}]),
       ('dpmpp_2m', 12, {'frames': 2.0}, 0.0), ('ddim', 7, {}, 0.3)),
      (dict(guidance=[None, {'text': 2.0}]),
       ('dpmpp_2m', 12, {'label': 1.5, 'text': 1.75}, 0.0),
       ('ddim', 7, {'text': 2.0}, 0.3)),
      (dict(guidance=[{'frames': 2.0}, None]),
       ('dpmpp_2m', 12, {'frames': 2.0}, 0.0),
       ('ddim', 7, {'text': 3.0}, 0.3)),
      (dict(steps=[5], sampler=['ddpm', 'ddim']),
       ('ddpm', 5, {'label': 1.5, 'text': 1.75}, 0.0),
       ('ddim', 5, {'text': 3.0}, 0.3)),
      (dict(noise_level=[0.0]),
       ('dpmpp_2m', 12, {'label': 1.5, 'text': 1.75}, 0.0),
       ('ddim', 7, {'text': 3.0}, 0.0)))
  def test_the_config_decides_what_is_not_asked(self, asked, *expected):
    for found, wanted in zip(_chosen(**asked), expected, strict=True):
      self.assertEqual(
          (found.options.sampler, found.options.num_steps,
           found.guidance.scales, found.noise_level), wanted)

  @parameterized.parameters((0.0, 0.1, False), (0.3, 0.3, True),
                            (0.3, 0.31, False), (1.0, 1.0, True))
  def test_noise_above_that_of_training_is_refused(self, trained, asked, ok):
    if ok:
      self.assertEqual(_chosen(trained, noise_level=[asked])[1].noise_level,
                       asked)
      return
    with self.assertRaisesRegex(
        errors.UserError, f'--noise_level {asked}: training of stage s1 .* '
        f'up to level {trained:g} alone'):
      _chosen(trained, noise_level=[asked])

  def test_scales_that_are_asked_keep_the_configs_schedule(self):
    base, _ = _chosen(guidance=[{'text': 2.0}])
    self.assertEqual(base.guidance.schedule, 'power_cosine')

  def test_each_setting_has_its_origin(self):
    base, second = _chosen(guidance=[{'text': 1.75}], noise_level=[0.3])
    self.assertEqual(base.origins, dict(
        sampler='config', steps='config', factorized='config',
        guidance='request', noise_level='config'))
    self.assertEqual(second.origins, dict(
        sampler='config', steps='config', factorized='config',
        guidance='request', noise_level='request'))

  def test_per_stage(self):
    spread = lambda values: settings.per_stage(values, 3, '--steps')
    self.assertEqual(spread(None), [None, None, None])
    self.assertEqual(spread([5]), [5, 5, 5])
    self.assertEqual(spread([5, 6, 7]), [5, 6, 7])
    with self.assertRaisesRegex(errors.UserError, '--steps has 2 values'):
      spread([5, 6])


if __name__ == '__main__':
  absltest.main()
