"""Optimizers against optax's, schedules, and gradients in parts."""
from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from tests.parallel import specs as specs_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.planning import collectives
from walt_jax.planning import hlo
from walt_jax.training import optimizers

RULES = (
    (r'/kernel$', partition.Matrix(P('fsdp'), P('tensor', None))),
    (r'/bias$', P(None)),
)


def options(**values):
  return optimizers.OptimizerOptions(**dict(
      peak_lr=1.0, warmup_steps=0, schedule='constant', clip_norm=0.0)
      | values)


class ScheduleTest(parameterized.TestCase):

  @parameterized.parameters('cosine', 'linear')
  def test_against_optax(self, name):
    ours = optimizers.learning_rate(options(
        schedule=name, peak_lr=2.0, warmup_steps=10, decay_steps=100,
        decay_fraction=0.25, final_lr=0.1))
    if name == 'cosine':
      decay = optax.cosine_decay_schedule(2.0, 90, alpha=0.1)
    else:
      decay = optax.join_schedules(
          [optax.constant_schedule(2.0),
           optax.linear_schedule(2.0, 0.2, 25)], [65])
    for step in (10, 30, 74, 75, 90, 99, 100, 200):
      np.testing.assert_allclose(ours(step), decay(step - 10), rtol=1e-5)
    np.testing.assert_allclose([ours(0), ours(4)], [0.2, 1.0], rtol=1e-6)

  def test_constant(self):
    ours = optimizers.learning_rate(options(warmup_steps=2))
    np.testing.assert_allclose([ours(0), ours(1), ours(9)], [0.5, 1, 1])

  @parameterized.parameters(
      dict(name='sgd'), dict(schedule='step'),
      dict(schedule='cosine', decay_steps=5, warmup_steps=5),
      dict(decay_fraction=0.0))
  def test_wrong_options_are_errors(self, **values):
    with self.assertRaisesRegex(ValueError, 'optimizer'):
      options(**values)


class AdafactorTest(absltest.TestCase):

  def test_each_layer_as_its_own_matrix_in_optax(self):
    layers, rows, heads, head_width = 3, 130, 4, 40
    optimizer = optimizers.make_optimizer(
        options(name='adafactor', b1=0.0), RULES)
    reference = optax.chain(
        optax.scale_by_factored_rms(decay_rate=0.8),
        optax.clip_by_block_rms(1.0), optax.scale(-1.0))
    shape = (layers, rows, heads, head_width)
    params = {'query': {'kernel': jnp.zeros(shape)}}
    matrices = lambda x: [x[i].reshape(rows, -1) for i in range(layers)]
    state = optimizer.init(params)
    expected_state = reference.init(matrices(params['query']['kernel']))
    update, expected_update = map(
        jax.jit, (optimizer.update, reference.update))
    for step in range(3):
      grads = jax.random.normal(jax.random.key(step), shape)
      got, state = update({'query': {'kernel': grads}}, state, params)
      expected, expected_state = expected_update(
          matrices(grads), expected_state, matrices(grads))
      np.testing.assert_allclose(
          got['query']['kernel'].reshape(layers, rows, -1),
          jnp.stack(expected), rtol=1e-4, atol=1e-6)

  def test_moments_drop_the_reduced_axes_and_so_do_their_specs(self):
    optimizer = optimizers.make_optimizer(
        options(name='adafactor', min_factored=4), RULES)
    params = {'key': {'kernel': jnp.zeros((2, 8, 4, 3)),
                      'bias': jnp.zeros((2, 12))}}
    (moments,) = [
        part.moments for part in optimizer.init(params)
        if hasattr(part, 'moments')]
    self.assertEqual(
        jax.tree.map(jnp.shape, moments),
        {'key': {'kernel': {'row': (2, 8), 'column': (2, 4, 3)},
                 'bias': {'full': (2, 12)}}})
    self.assertEqual(
        specs_lib.tree_specs({'moments': moments}, RULES)['moments'],
        {'key': {'kernel': {'row': P(None, 'fsdp'),
                            'column': P(None, 'tensor', None)},
                 'bias': {'full': P(None, None)}}})

  def test_momentum_and_parameter_scale(self):
    optimizer = optimizers.make_optimizer(
        options(name='adafactor', b1=0.9, parameter_scale=True), RULES)
    params = {'a': {'bias': jnp.full((2, 8), 3.0)}}
    grads = {'a': {'bias': jnp.ones((2, 8))}}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    # Unit update, times the size 3, times 1 - b1.
    np.testing.assert_allclose(updates['a']['bias'], -0.3, rtol=1e-5)


class AdamTest(absltest.TestCase):

  def test_against_optax_with_decay_on_matrices_alone(self):
    optimizer = optimizers.make_optimizer(
        options(weight_decay=0.1, clip_norm=1.0), RULES)
    mask = {'a': {'kernel': True, 'bias': False}}
    reference = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(1.0, 0.9, 0.99, weight_decay=0.1, mask=mask))
    params = {'a': {'kernel': jnp.ones((3, 2, 2)), 'bias': jnp.ones(3)}}
    state, expected_state = optimizer.init(params), reference.init(params)
    for step in range(3):
      grads = optax.tree.scale(step + 1.0, params)
      got, state = optimizer.update(grads, state, params)
      expected, expected_state = reference.update(
          grads, expected_state, params)
      jax.tree.map(
          lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
          got, expected)


class PartsTest(absltest.TestCase):

  def test_parts_give_the_gradient_of_the_whole(self):
    def loss_fn(params, batch, key):
      del key
      error = jnp.square(batch['x'] @ params - batch['y']).mean()
      return error, {'error': error}

    random = np.random.default_rng(0)
    batch = {'x': random.normal(size=(8, 3)), 'y': random.normal(size=(8, 2))}
    params = jnp.ones((3, 2))
    key = jax.random.key(0)
    whole = optimizers.value_and_grad(loss_fn)(params, batch, key)
    parts = jax.jit(optimizers.value_and_grad(loss_fn, 4))(
        params, batch, key)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        whole, parts)
    with self.assertRaisesRegex(ValueError, '8 rows'):
      optimizers.value_and_grad(loss_fn, 3)(params, batch, key)

  def test_one_reduction_a_step_over_an_axis_apart(self):
    """Rows over data and fsdp, weights over fsdp; nothing goes over data
    inside of the loop."""
    def loss_fn(params, batch, key):
      noise = jax.vmap(lambda row: jax.random.normal(
          jax.random.fold_in(key, row), (2,)))(batch['row'])
      hidden = nn.with_logical_constraint(
          batch['x'] @ params, ('batch', 'mlp'))
      error = jnp.square(hidden - noise).mean(-1)
      return error.mean(), {'error': error}

    mesh = mesh_lib.make_mesh(2, 2, 1, jax.devices()[:4])
    rows = mesh_lib.batch_sharding(mesh)
    cut = NamedSharding(mesh, P('fsdp'))
    everywhere = mesh_lib.replicated(mesh)
    batch = {'x': np.random.default_rng(0).normal(size=(16, 4)),
             'row': np.arange(16)}
    params, key = jnp.ones((4, 2)), jax.random.key(0)
    whole = optimizers.value_and_grad(loss_fn)(params, batch, key)
    bodies = {}
    for apart in (None, 'data'):
      with partition.activate(mesh):
        program = jax.jit(
            optimizers.value_and_grad(loss_fn, 4, apart),
            in_shardings=(cut, rows, everywhere),
            out_shardings=(everywhere, cut)).lower(
                params, batch, key).compile()
      (loss, metrics), grads = program(*jax.device_put(
          (params, batch, key), (cut, rows, everywhere)))
      np.testing.assert_allclose(loss, whole[0][0], rtol=1e-5)
      np.testing.assert_allclose(metrics['error'].mean(), whole[0][0],
                                 rtol=1e-5)
      np.testing.assert_allclose(grads, whole[1], rtol=1e-5)
      bodies[apart] = {
          count for count, groups in exchanges(program.as_text())
          if any(len({device // 2 for device in group}) > 1
                 for group in groups)}
    self.assertEqual(bodies, {None: {1, 4}, 'data': {1}})


def exchanges(text):
  """How often each collective runs, and its groups of devices."""
  program = hlo.parse(text)
  is_one = lambda one: collectives.collective(one) is not None
  for name, count in program.multiplicities(is_one).items():
    for one in program.computations[name].instructions:
      if is_one(one):
        yield count, collectives.device_groups(one)


if __name__ == '__main__':
  absltest.main()
