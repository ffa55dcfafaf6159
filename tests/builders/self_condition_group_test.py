"""Where groups of rows for self-conditioning fit into shards."""
from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.builders import config as config_lib
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.core import errors


def groups(num_shards, **overrides):
  config = schema.of(config_lib.load('configs/ucf101.py:l', [
      (key.replace('__', '.'), value) for key, value in overrides.items()]))
  return objectives.objective(
      config, 'cpu', num_shards).options.self_condition_groups


class SelfConditionGroupTest(parameterized.TestCase):

  @parameterized.parameters(
      (16, {}, 15 / 16), (32, {}, 1.0),
      (4, dict(optimizer__accumulation_steps=4), 15 / 16),
      (8, dict(optimizer__accumulation_steps=4), 1.0),
      (32, dict(diffusion__self_condition_group=8,
                diffusion__self_condition_probability=.3), 3 / 8),
      (1, dict(data__batch_size=8), 1.0),
      (1, dict(diffusion__self_condition_group=1), 1.0))
  def test_share_of_rows_that_make_an_estimate(
      self, num_shards, overrides, share):
    self.assertEqual(groups(num_shards, **overrides).share_passed, share)

  def test_rows_of_images_have_no_neighbours(self):
    with self.assertRaisesRegex(
        errors.UserError, 'self_condition_group is 16.*image_rows=64'):
      groups(1, data__image_rows=64)


if __name__ == '__main__':
  absltest.main()
