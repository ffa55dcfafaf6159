"""Every leaf of every stage's state has a rule, and the rules cut them."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import pytest

from tests.parallel import specs as specs_lib
from walt_jax.core import types
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import discriminator as discriminator_lib
from walt_jax.training import optimizers
from walt_jax.training import state as train_state


def denoiser_params(**fields):
  """Shapes of a denoiser with every part that has parameters."""
  denoiser = denoiser_lib.Denoiser(**dict(
      width=16, depth=4, num_heads=4, mlp_width=32, patch=2,
      spatial_window=(1, 4, 4), spacetime_window=(2, 2, 2), num_classes=3,
      text_width=6, low_res_factor=2, use_noise_level=True) | fields)
  latents = jnp.zeros((2, 2, 8, 8, 3))
  init = lambda key: denoiser.init(
      key, latents, jnp.ones((2, 1)), types.Conditioning())
  return jax.eval_shape(init, jax.random.key(0))['params']


def tokenizer_params():
  autoencoder = autoencoder_lib.Autoencoder(
      base_channels=8, num_groups=4, blocks_per_level=1, middle_blocks=1)
  discriminator = discriminator_lib.Discriminator(base_channels=8)
  clip = jnp.zeros((1, 5, 32, 32, 3))
  return jax.eval_shape(lambda key: {
      'autoencoder': autoencoder.init(key, clip)['params'],
      'discriminator': {
          'videos': discriminator.init(key, clip)['params']},
  }, jax.random.key(0))


class RulesTest(parameterized.TestCase):

  @parameterized.product(
      params=('denoiser', 'denoiser_mlp', 'tokenizer'),
      optimizer=('adamw', 'adafactor'))
  @pytest.mark.slow
  def test_every_leaf_of_the_state_has_a_rule(self, params, optimizer):
    rules = (partition.TOKENIZER_RULES if params == 'tokenizer'
             else partition.DENOISER_RULES)
    shapes = {'denoiser': denoiser_params,
              'denoiser_mlp': lambda: denoiser_params(lora_rank=0),
              'tokenizer': tokenizer_params}[params]()
    optimizer = optimizers.make_optimizer(
        optimizers.OptimizerOptions(
            name=optimizer, weight_decay=0.1, min_factored=4), rules)
    state = jax.eval_shape(
        lambda p: train_state.create(
            p, optimizer, (0.99, 0.9999), {'skipped': jnp.zeros(())}), shapes)
    specs = specs_lib.tree_specs(state, rules)
    # Moments and averages are cut as their parameters.
    flat = lambda tree: jax.tree.leaves(
        tree, is_leaf=lambda x: isinstance(x, P))
    self.assertEqual(flat(specs.params), flat(specs.ema['0.9999']))
    mesh = mesh_lib.make_mesh(2, 2, 2, jax.devices()[:8])
    shardings = partition.tree_shardings(state, mesh, rules)
    for leaf, sharding in zip(
        jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
      sharding.shard_shape(leaf.shape)  # Raises where it does not divide.

  def test_large_matrices_are_cut_on_both_axes(self):
    specs = specs_lib.tree_specs(
        denoiser_params(), partition.DENOISER_RULES)
    layer = specs['layers']['spatial']
    self.assertEqual(
        layer['attention']['query']['kernel'],
        P(None, 'fsdp', 'tensor', None))
    self.assertEqual(
        layer['attention']['out']['kernel'], P(None, 'tensor', None, 'fsdp'))
    self.assertEqual(
        layer['mlp']['mlp_in']['kernel'], P(None, 'fsdp', 'tensor'))
    self.assertEqual(
        layer['mlp']['mlp_out']['kernel'], P(None, 'tensor', 'fsdp'))

  def test_a_leaf_without_a_rule_is_an_error(self):
    tree = {'layer': {'strange': jnp.zeros(3)}}
    with self.assertRaisesRegex(ValueError, 'layer/strange'):
      specs_lib.tree_specs(tree, partition.DENOISER_RULES)

  def test_a_rule_with_too_many_axes_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'more axes'):
      specs_lib.tree_specs(
          {'mlp_in': {'kernel': jnp.zeros(3)}}, partition.DENOISER_RULES)

  def test_axes_that_do_not_divide_stay_whole(self):
    mesh = mesh_lib.make_mesh(2, 2, 2, jax.devices()[:8])
    shardings = partition.tree_shardings(
        {'a': {'mlp_in': {'kernel': jnp.zeros((3, 4))}}}, mesh,
        partition.DENOISER_RULES)
    self.assertEqual(
        shardings['a']['mlp_in']['kernel'].spec, P(None, 'tensor'))


if __name__ == '__main__':
  absltest.main()
