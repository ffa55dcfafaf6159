"""A stage small enough to train in a test: linear regression with noise."""
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from walt_jax.parallel import rules as partition
from walt_jax.training import optimizers
from walt_jax.training import stage as stage_lib
from walt_jax.training import state as train_state

RULES = (
    (r'(^|/)(count|step)$', P()),
    (r'/kernel$', partition.Matrix(P('fsdp'), P('tensor'))),
    (r'/bias$', P('tensor')),
)
WIDTH = 8
ROWS = 8


def make_stage(options=None, evaluate=None) -> stage_lib.Stage:
  optimizer = optimizers.make_optimizer(
      options or optimizers.OptimizerOptions(
          peak_lr=1e-2, warmup_steps=2, decay_steps=20), RULES)

  def init(key):
    params = {'layer': {'kernel': jax.random.normal(key, (WIDTH, WIDTH)),
                        'bias': jnp.zeros(WIDTH)}}
    return train_state.create(params, optimizer, ema_decays=(0.9,))

  def encode(frozen, batch, key):
    noise = jax.random.normal(key, batch['x'].shape)
    return {'x': batch['x'] * frozen['scale'] + 0.1 * noise, 'y': batch['y']}

  def loss_fn(params, batch, key):
    layer = params['layer']
    noise = 0.1 * jax.random.normal(key, batch['x'].shape)
    out = (batch['x'] + noise) @ layer['kernel'] + layer['bias']
    return jnp.mean(jnp.square(out - batch['y'])), {}

  def train_step(state, batch, key, frozen=None):
    del frozen
    (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params, batch, key)
    updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = state.replace(
        step=state.step + 1, params=params, opt_state=opt_state,
        ema=train_state.update_ema(state.ema, params))
    return state, {'loss': loss, 'grad_norm': optax.tree.norm(grads)}

  return stage_lib.Stage(
      name='toy', init=init, encode=encode, train_step=train_step,
      evaluate=evaluate, rules=RULES,
      frozen={'scale': np.float32(2.0)})


def batches(start):
  """Yields batches that are functions of their index alone."""
  index = start
  while True:
    random = np.random.default_rng(index)
    x = random.normal(size=(ROWS, WIDTH)).astype(np.float32)
    yield {'x': x, 'y': x[:, ::-1].copy()}
    index += 1
