"""Text encoders: every leaf has a rule, and cut weights give equal states."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from tests.parallel import specs as specs_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.text import minilm
from walt_jax.text import t5


def t5_encoder(feed_forward: str, dtype=jnp.float32) -> t5.T5Encoder:
  return t5.T5Encoder(t5.T5Config(
      vocabulary=32, width=16, head_width=4, num_layers=2, num_heads=4,
      mlp_width=24, num_buckets=8, max_distance=16, epsilon=1e-6,
      feed_forward=feed_forward), dtype)


def bert_encoder() -> minilm.Bert:
  return minilm.Bert(minilm.BertConfig(
      vocabulary=32, width=16, num_layers=2, num_heads=4, mlp_width=24,
      max_positions=8, num_segments=2, epsilon=1e-12))


ENCODERS = dict(
    t5=lambda: t5_encoder('gated-gelu'), t5_plain=lambda: t5_encoder('relu'),
    t5_bfloat16=lambda: t5_encoder('gated-gelu', jnp.bfloat16),
    minilm=bert_encoder)
IDS = np.random.default_rng(0).integers(0, 32, (8, 8))
MASK = np.arange(8) < np.arange(1, 9)[:, None]


class TextRulesTest(parameterized.TestCase):

  @parameterized.parameters(*ENCODERS)
  def test_every_leaf_has_a_rule_and_every_matrix_is_cut(self, name):
    module = ENCODERS[name]()
    params = jax.eval_shape(module.init, jax.random.key(0), IDS, MASK)['params']
    mesh = mesh_lib.make_mesh(2, 2, 2, jax.devices()[:8])
    for tree, rules in ((params, partition.TEXT_RULES),
                        ({'text': params}, partition.FROZEN_RULES)):
      shardings = partition.tree_shardings(tree, mesh, rules)
      for leaf, sharding in zip(
          jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True):
        if leaf.ndim > 2 and min(leaf.shape) > 1 and leaf.size > 512:
          shard = np.prod(sharding.shard_shape(leaf.shape))
          self.assertEqual(leaf.size, 4 * shard, leaf.shape)

  def test_layers_are_cut_over_heads_and_width(self):
    params = jax.eval_shape(
        t5_encoder('gated-gelu').init, jax.random.key(0), IDS, MASK)['params']
    specs = specs_lib.tree_specs(params, partition.TEXT_RULES)
    layers = specs['layers']
    self.assertEqual(layers['query']['kernel'],
                     P(None, 'fsdp', 'tensor', None))
    self.assertEqual(layers['mlp_gate']['kernel'], P(None, 'fsdp', 'tensor'))
    self.assertEqual(layers['mlp_out']['kernel'], P(None, 'tensor', 'fsdp'))
    self.assertEqual(specs['words']['embedding'], P(None, 'fsdp'))

  def test_tokenizers_are_whole_on_every_device(self):
    tree = {'tokenizer': {'params': {'encoder': {'norm': {
        'scale': jnp.zeros(8)}}}, 'statistics': {'mean': jnp.zeros(4)}}}
    for spec in jax.tree.leaves(
        specs_lib.tree_specs(tree, partition.FROZEN_RULES),
        is_leaf=lambda x: isinstance(x, P)):
      self.assertEqual(set(spec), {None})

  @parameterized.parameters('t5', 'minilm')
  @pytest.mark.slow
  def test_cut_weights_give_the_states_of_whole_ones(self, name):
    module = ENCODERS[name]()
    params = jax.jit(module.init)(jax.random.key(0), IDS, MASK)['params']
    apply = lambda params, ids, mask: module.apply(
        {'params': params}, ids, mask)
    whole = jax.jit(apply)(params, IDS, MASK)
    mesh = mesh_lib.make_mesh(2, 2, 2, jax.devices()[:8])
    cut = jax.device_put(params, partition.tree_shardings(
        params, mesh, partition.TEXT_RULES))
    rows = NamedSharding(mesh, P(('data', 'fsdp')))
    with partition.activate(mesh):
      states = jax.jit(apply)(
          cut, jax.device_put(IDS, rows), jax.device_put(MASK, rows))
    np.testing.assert_allclose(states, whole, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
