"""Muon against its definition by SVD and against optax's."""
from absl.testing import absltest
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
from optax import contrib

from walt_jax.core import errors
from walt_jax.parallel import rules as partition
from walt_jax.training import muon
from walt_jax.training import optimizers

RULES = (
    (r'/kernel$', partition.Matrix(P('fsdp'), P('tensor', None))),
    (r'/thin$', partition.Matrix(P('fsdp'), P(None))),
    (r'/bias$', P(None)),
)
LAYERS, ROWS, HEADS, HEAD_WIDTH = 3, 24, 2, 20


def parameters(seed: int = 0):
  keys = jax.random.split(jax.random.key(seed), 4)
  normal = jax.random.normal
  return {'layers': {
      'kernel': normal(keys[0], (LAYERS, ROWS, HEADS, HEAD_WIDTH)),
      'thin': normal(keys[1], (LAYERS, ROWS, 2)),
      'bias': normal(keys[2], (LAYERS, ROWS))},
          'head': {'kernel': normal(keys[3], (ROWS, HEADS, HEAD_WIDTH))}}


def matrices(tree):
  """The leaf that Muon is for, a matrix a layer."""
  return tree['layers']['kernel'].reshape(LAYERS, ROWS, -1)


def make(name: str = 'muon', **values):
  return optimizers.make_optimizer(optimizers.OptimizerOptions(**dict(
      name=name, peak_lr=1.0, warmup_steps=0, schedule='constant',
      clip_norm=0.0) | values), RULES)


class OrthogonalizeTest(absltest.TestCase):

  def test_keeps_directions_and_equals_their_strengths(self):
    for shape in ((2, 16, 40), (40, 16)):
      x = jax.random.normal(jax.random.key(0), shape)
      got = np.asarray(muon.orthogonalize(x))
      u, _, vt = np.linalg.svd(np.asarray(x), full_matrices=False)
      inner = u.swapaxes(-2, -1) @ got @ vt.swapaxes(-2, -1)
      strengths = np.diagonal(inner, axis1=-2, axis2=-1)
      self.assertBetween(strengths.min(), 0.6, 1.3)
      self.assertBetween(strengths.max(), 0.6, 1.3)
      rest = inner - strengths[..., None] * np.eye(inner.shape[-1])
      self.assertLess(np.abs(rest).max(), 1e-4)

  def test_zero_stays_zero(self):
    np.testing.assert_array_equal(muon.orthogonalize(jnp.zeros((4, 4))), 0)


class MuonTest(absltest.TestCase):

  def test_first_update_of_each_layer_is_that_of_optax(self):
    params, grads = parameters(), parameters(1)
    got, _ = make().update(grads, make().init(params), params)
    reference = contrib.muon(1.0, consistent_rms=0.2)
    for layer in range(LAYERS):
      plain = dict(x=matrices(params)[layer])
      expected, _ = reference.update(
          dict(x=matrices(grads)[layer]), reference.init(plain), plain)
      np.testing.assert_allclose(
          matrices(got)[layer], expected['x'], rtol=1e-4, atol=1e-4)

  def test_momentum_looks_ahead(self):
    params = parameters()
    optimizer = make()
    state, momentum = optimizer.init(params), 0.0
    for step in range(3):
      grads = parameters(step)
      got, state = optimizer.update(grads, state, params)
      momentum = 0.95 * momentum + 0.05 * matrices(grads)
      ahead = 0.95 * momentum + 0.05 * matrices(grads)
      expected = -0.2 * np.sqrt(HEADS * HEAD_WIDTH) * muon.orthogonalize(ahead)
      np.testing.assert_allclose(
          matrices(got), expected, rtol=1e-4, atol=1e-4)

  def test_the_rest_is_adams(self):
    params = parameters()
    ours, adam = make(), make('adamw')
    state, expected_state = ours.init(params), adam.init(params)
    for step in range(2):
      grads = parameters(step)
      got, state = ours.update(grads, state, params)
      expected, expected_state = adam.update(grads, expected_state, params)
      for leaf in ('thin', 'bias'):
        np.testing.assert_allclose(
            got['layers'][leaf], expected['layers'][leaf], rtol=1e-5)
      np.testing.assert_allclose(
          got['head']['kernel'], expected['head']['kernel'], rtol=1e-5)

  def test_scale_of_gradients_does_not_matter_to_it(self):
    params, grads = parameters(), parameters(1)
    optimizer = make()
    got = [optimizer.update(optax.tree.scale(scale, grads),
                            optimizer.init(params), params)[0]
           for scale in (1e-3, 1e3)]
    np.testing.assert_allclose(*map(matrices, got), rtol=1e-3, atol=1e-4)

  def test_its_rate_is_a_multiple_of_the_others(self):
    params, grads = parameters(), parameters(1)
    plain, double = (
        optimizer.update(grads, optimizer.init(params), params)[0]
        for optimizer in (make(), make(muon_lr_ratio=2.0)))
    np.testing.assert_allclose(
        matrices(double), 2 * matrices(plain), rtol=1e-6)
    np.testing.assert_array_equal(
        double['head']['kernel'], plain['head']['kernel'])

  def test_no_stacked_layers_is_an_error(self):
    with self.assertRaisesRegex(errors.UserError, 'use adamw'):
      make().init({'head': parameters()['head']})


if __name__ == '__main__':
  absltest.main()
