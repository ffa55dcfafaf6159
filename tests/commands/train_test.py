"""What `walt train` says and refuses before it builds anything."""
import re
import types

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.commands import train
from walt_jax.core import errors
from walt_jax.core import profile_request
from walt_jax.evaluation import training
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import session
from walt_jax.planning import summary


def check(spec, platform='cpu', allowed=False, **overrides):
  config = schema.of(config_lib.load(f'configs/{spec}', [
      (f'train.{key}', str(value)) for key, value in overrides.items()]))
  device = types.SimpleNamespace(platform=platform)
  train._check_platform(
      config, types.SimpleNamespace(devices=np.array([device])),
      summary.step_flops(config), allowed)


class PlatformTest(parameterized.TestCase):

  @parameterized.parameters(
      'ucf101.py:l', 'ucf101.py:ablation_patch_4', 't2v_sr2.py')
  def test_a_cpu_is_refused_what_takes_minutes_a_step(self, spec):
    with self.assertRaisesRegex(errors.UserError, 'FLOPs.*--allow_cpu') as e:
      check(spec)
    self.assertNotIn('\n', str(e.exception))
    check(spec, platform='tpu')

  def test_unless_it_is_asked_for_or_nothing_is_trained(self):
    check('ucf101.py:l', allowed=True)
    check('ucf101.py:l', num_steps=0)

  @parameterized.parameters(
      'quickstart.py:base', 'quickstart.py:sr2', 'quickstart.py:tokenizer',
      't2v_base.py:smoke', 'tokenizer_video.py:ucf101_small')
  def test_small_configs_train_anywhere(self, spec):
    check(spec)


class ProfileTest(parameterized.TestCase):

  @parameterized.parameters(
      ((1, 2, 1), 'no process 1 of 1'), ((4, 6), 'num_steps=4'))
  def test_a_trace_that_would_never_be_written_is_refused(self, asked, words):
    with self.assertRaisesRegex(errors.UserError, words):
      train._check_profile(profile_request.Request(*asked), 4)

  def test_others_are_not(self):
    train._check_profile(None, 4)
    train._check_profile(profile_request.Request(3, 6), 4)


class KeysTest(parameterized.TestCase):
  """Keys that a run would find wanting only hours later, or never."""

  @parameterized.parameters(
      ('ucf101:smoke', 'foo', 'give eval/v_loss, eval/v_loss_q1, '),
      ('ucf101:smoke', 'eval/v_loss_given', "is 'eval/v_loss_given', but"),
      ('quickstart:tokenizer', 'eval/v_loss', 'give eval/psnr; choose'),
      ('tokenizer_image:smoke', 'eval/psnr', 'give eval/image_psnr; choose'))
  def test_a_metric_that_no_evaluation_gives(self, spec, metric, words):
    config = schema.of(config_lib.load(spec, [
        ('train.best_metric', metric), ('train.keep_best', '1'),
        ('train.eval_every', '1'), ('train.save_every', '1')]))
    with self.assertRaisesRegex(errors.UserError, words):
      training.check_best(config, (), train._scores(config))

  @parameterized.parameters(
      ('quickstart:base', 'eval/v_loss', ()),
      ('digits_rollout', 'eval/v_loss_given_q2', ()),
      ('quickstart:base', 'eval/fvd', ('fvd',)),
      ('quickstart:base', 'eval/sfid', ('fid',)),
      ('quickstart:tokenizer', 'eval/psnr', ()))
  def test_one_that_they_give(self, spec, metric, evaluators):
    config = schema.of(config_lib.load(spec, [
        ('train.best_metric', metric), ('train.keep_best', '1'),
        ('train.eval_every', '1'), ('train.save_every', '1')]))
    training.check_best(config, evaluators, train._scores(config))

  @parameterized.parameters(
      ('text.max_tokens', '8'), ('text.width', '8'), ('text.path', 'x'))
  def test_text_keys_without_text(self, key, value):
    config = schema.of(config_lib.load('ucf101:smoke', [(key, value)]))
    with self.assertRaisesRegex(errors.UserError, f'{key} is .*name an enc'):
      train._check_new(config)


class SessionTest(absltest.TestCase):

  def test_first_line(self):
    mesh = mesh_lib.make_mesh(2, 1, 1, devices=jax.devices()[:2])
    self.assertTrue(re.fullmatch(
        r'2 x cpu, data 2 x fsdp 1 x tensor 1; 1 process; walt [\d.]+\S*, '
        rf'Python 3\.\d+\.\d+, jax {re.escape(jax.__version__)}, jaxlib .*',
        session.words(mesh)), session.words(mesh))
    self.assertStartsWith(
        session.words(None), f'{jax.device_count()} x cpu; 1 process; walt ')


if __name__ == '__main__':
  absltest.main()
