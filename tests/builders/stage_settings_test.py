"""How a config's samples are drawn where nothing else is asked for."""
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.builders import denoiser_runs
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import stage_sampler

_GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'files'


def _experiment(spec: str, *overrides) -> schema.Experiment:
  return schema.of(config_lib.load(spec, overrides))


def _settings(spec: str, *overrides):
  return objectives.stage_settings(_experiment(spec, *overrides))


class StageSettingsTest(parameterized.TestCase):

  @parameterized.parameters(
      # The scales that the quickstart's commands gave by flags before; the
      # paper guides text to video alone (section 5.2), by no scale it names.
      ('quickstart:base', {'label': 1.5, 'text': 1.75}, 0.0),
      ('quickstart:base_long', {'label': 4.5, 'text': 4.5}, 0.0),
      ('quickstart:sr1', {}, 0.1), ('quickstart:sr2', {}, 0.1),
      ('quickstart:sr1_long', {}, 0.1), ('quickstart:sr2_long', {}, 0.1),
      ('digits_rollout', {'text': 2.5}, 0.0),
      ('t2v_base', {'text': 7.5}, 0.0), ('t2v_base_9x16', {'text': 7.5}, 0.0),
      ('t2v_sr1', {'text': 7.5}, 0.1), ('t2v_sr2', {'text': 7.5}, 0.1),
      ('ucf101', {}, 0.0), ('k600', {}, 0.0), ('imagenet256', {}, 0.0))
  def test_scales_and_noise_of_the_configs(self, spec, scales, level):
    found = _settings(spec)
    self.assertEqual(found.guidance.scales, scales)
    self.assertEqual(found.noise_level, level)
    self.assertEqual(set(found.origins.values()), {'config'})

  def test_keys_of_a_section_that_the_config_leaves_out(self):
    found = _settings(
        'ucf101:smoke', ('sampler.guidance.label', '1.5'),
        ('sampler.guidance.schedule', 'power_cosine'),
        ('sampler.guidance.power', '2'), ('sampler.eta', '0.5'))
    self.assertEqual(found.guidance.scales, {'label': 1.5})
    self.assertEqual(found.guidance.shape,
                     dict(schedule='power_cosine', power=2.0))
    self.assertEqual(found.options.eta, 0.5)
    none = _settings('ucf101:smoke', ('sampler.guidance.label', '1'))
    self.assertEqual(none.guidance.scales, {})

  @parameterized.parameters(
      ('ucf101:smoke', 'guidance.text', '2', '.text is 2, but .* on label;'),
      ('ucf101:smoke', 'guidance.frames', '2', '.frames is 2, but .* label;'),
      ('ucf101:smoke', 'guidance.own', "(('speed', 3.0),)", '.speed is 3, but'),
      ('ucf101:smoke', 'guidance.scale', '2', "'sampler.guidance.scale'"),
      ('ucf101:smoke', 'guidance.label', 'high', "float .* but 'high'"),
      ('ucf101:smoke', 'guidance.interval', '(0.5, 0.2)', 'interval must lie'),
      ('ucf101:smoke', 'guidance.label', '1e999', 'is inf; give a number from'),
      ('ucf101:smoke', 'noise_level', '0.2', 'noise_level is 0.2, but a base'),
      ('t2v_sr1:smoke', 'noise_level', '1.5', 'a number from 0 to 1'),
      ('t2v_sr1:smoke', 'noise_level', '0.31', 'is 0.31, .* up to level 0.3 '))
  def test_refusals(self, spec, key, value, said):
    with self.assertRaisesRegex(errors.UserError, said) as raised:
      _settings(spec, (f'sampler.{key}', value))
    self.assertNotIn('\n', str(raised.exception))

  @parameterized.parameters(
      # The level of training; of samples where nothing is asked for.
      ('0.0', 0.0), ('0.05', 0.05), ('0.1', 0.1), ('0.3', 0.1))
  def test_no_more_noise_than_in_training(self, trained, level):
    trained = ('diffusion.max_low_res_level', trained)
    self.assertEqual(_settings('t2v_sr1:smoke', trained).noise_level, level)
    self.assertEqual(
        _settings('t2v_sr1:smoke', trained,
                  ('sampler.noise_level', trained[1])).noise_level,
        float(trained[1]))

  def test_without_a_condition_that_is_never_left_out(self):
    """Guidance compares with a pass that training must have seen."""
    scale = ('sampler.guidance.label', '2')
    _settings('ucf101:smoke', scale)
    with self.assertRaisesRegex(errors.UserError, 'diffusion.drop_label'):
      _settings('ucf101:smoke', scale, ('diffusion.drop_label', '0.0'))

  @parameterized.parameters(
      ('0.5', '0.0', True), ('1.0', '0.1', True), ('1.0', '0.0', False))
  def test_frames_are_left_out_by_two_probabilities(self, given, drop, learnt):
    found = objectives.learnt_conditions(_experiment(
        'k600:smoke', ('diffusion.frame_condition_probability', given),
        ('diffusion.drop_frames', drop)))
    self.assertEqual(found['frames'], learnt)

  def test_training_draws_its_pictures_with_the_configs_scales(self):
    values = json.loads((_GOLDEN / 'sr' / 'config.json').read_text())
    del values['derived']
    values['data']['path'] = str(_GOLDEN / 'prepared')
    values['tokenizer']['workdir'] = str(_GOLDEN / 'tokenizer')
    values['sampler']['guidance'] = dict(label=3.0)
    workdir = self.enterContext(tempfile.TemporaryDirectory())
    with mock.patch.object(
        stage_sampler.StageSampler, 'make', autospec=True) as make:
      denoiser_runs.denoiser_run(
          schema.of(values), workdir, mesh_lib.make_mesh(data=1, tensor=-1))
    self.assertEqual(make.call_args.args[2].scales, {'label': 3.0})

  def test_plans_compile_the_sampler_that_samples(self):
    for overrides, wanted in (((), {}), (
        (('sampler.guidance.label', '3'),), {'label': 3.0})):
      with mock.patch.object(
          stage_sampler.StageSampler, 'make', autospec=True) as make:
        absent_runs.absent_run(
            _experiment('ucf101:smoke', *overrides),
            mesh_lib.make_mesh(data=1, tensor=-1))
      self.assertEqual(make.call_args.args[2].scales, wanted)


if __name__ == '__main__':
  absltest.main()
