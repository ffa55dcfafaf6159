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
