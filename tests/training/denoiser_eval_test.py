"""Held-out losses and samples of a denoiser, against NumPy."""
import dataclasses
from typing import Any

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types
from walt_jax.diffusion import loss
from walt_jax.diffusion import prediction
from walt_jax.diffusion import schedules
from walt_jax.tokenizer import statistics
from walt_jax.training import denoiser_eval
from walt_jax.training import denoiser_step
from walt_jax.training import state as train_state

ROWS, SHAPE = 6, (3, 4, 4, 2)
# Videos, then rows of images.
IS_IMAGE = np.array([False, False, False, False, True, True])
WEIGHTS = dict(x=0.7, time=0.3, label=0.2, given=-0.5, mask=0.4, own=5.0,
               low=0.6, level=3.0)


@dataclasses.dataclass(frozen=True)
class LinearNetwork:
  """A sum of all that a denoiser sees, each times a weight."""
  low_res_factor: int = 0
  num_classes: int = 5
  text_width: int = 0
  conditions: tuple[Any, ...] = ()

  def apply(self, variables, x_t, timestep, conditioning):
    weights = variables['params']
    wide = lambda x: x.reshape(*x.shape, *(1,) * (5 - x.ndim))
    parts = dict(
        x=x_t, time=timestep, label=conditioning.label,
        given=conditioning.frame_cond, mask=conditioning.frame_mask,
        own=conditioning.self_cond, low=conditioning.low_res,
        level=conditioning.low_res_level)
    return sum(weights[name] * wide(part) for name, part in parts.items()
               if part is not None)


def objective(probability=0.7, low_res_factor=0, **options):
  return denoiser_step.DenoiserObjective(
      LinearNetwork(low_res_factor), schedules.linear(),
      prediction.Prediction('v'),
      loss.LossOptions(frame_condition_probability=probability,
                       frame_condition_lengths=(1, 2), **options),
      has_images=True)


def batch_of(seed=0, rows=None, low_res=False) -> types.LatentBatch:
  random = np.random.default_rng(seed)
  batch = types.LatentBatch(
      latents=random.standard_normal((ROWS, *SHAPE), np.float32),
      is_image=IS_IMAGE,
      label=random.integers(0, 5, (ROWS, 1)).astype(np.int32),
      low_res=(random.standard_normal((ROWS, 3, 1, 1, 2), np.float32)
               if low_res else None),
      row=np.arange(ROWS, dtype=np.int32))
  return batch if rows is None else jax.tree.map(lambda x: x[rows], batch)


def alpha_sigma(time: float) -> tuple[float, float]:
  """Linear betas at step 1000 t, rescaled to end at no signal."""
  roots = np.sqrt(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
  roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
  alpha = roots[round(1000 * time) - 1]
  return alpha, np.sqrt(1 - alpha ** 2)


def expected_loss(batch, times, key, mask=None) -> list[float]:
  """The mean squared error of each row; only the noise comes from JAX."""
  losses = []
  for i in range(len(batch.latents)):
    x_0 = np.asarray(batch.latents[i], np.float64)
    eps = np.asarray(jax.random.normal(
        jax.random.fold_in(key, int(batch.row[i])), x_0.shape), np.float64)
    alpha, sigma = alpha_sigma(times[i])
    x_t = alpha * x_0 + sigma * eps
    output = (0.7 * x_t + 0.3 * times[i] + 0.2 * float(batch.label[i, 0]))
    if mask is not None:
      given = np.asarray(mask[i], np.float64)[:, None, None, None]
      output = output - 0.5 * given * x_0 + 0.4 * given
    if batch.low_res is not None:
      output = output + 0.6 * np.asarray(batch.low_res[i], np.float64)
    v = alpha * eps - sigma * x_0
    losses.append(np.mean((output - v) ** 2))
  return losses


def held_out(batch, mask=None, key=None, **options) -> np.ndarray:
  built = objective(**options)
  return np.asarray(jax.jit(built.held_out_loss)(
      WEIGHTS, batch, TIMES[batch.row], KEY if key is None else key, mask))


KEY = jax.random.key(5)
TIMES = np.array([0.001, 0.25, 0.5, 0.75, 0.999, 1.0], np.float32)
MASK = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0],
                 [0, 0, 0]], np.float32)


class HeldOutLossTest(parameterized.TestCase):

  @parameterized.product(mask=(None, MASK), low_res=(False, True))
  def test_equals_numpy(self, mask, low_res):
    batch = batch_of(low_res=low_res)
    found = held_out(batch, mask, low_res_factor=int(low_res))
    np.testing.assert_allclose(
        found, expected_loss(batch, TIMES, KEY, mask), rtol=2e-5)

  def test_nothing_but_the_key_moves_the_noise(self):
    found = held_out(batch_of())
    np.testing.assert_array_equal(
        found, held_out(batch_of(), key=jax.random.key(5)))
    np.testing.assert_array_equal(found, held_out(
        batch_of(), probability=0.0, self_condition_probability=1.0,
        max_low_res_level=0.0))
    other = held_out(batch_of(), key=jax.random.key(6))
    self.assertTrue((np.abs(other - found) > 1e-4).all())

  def test_a_row_does_not_depend_on_its_batch(self):
    whole = held_out(batch_of(), MASK)
    rows = np.array([4, 1])
    part = held_out(batch_of(rows=rows), MASK[rows])
    np.testing.assert_allclose(part, whole[rows], rtol=1e-6)

  def test_a_given_frame_changes_its_own_row(self):
    more = MASK.copy()
    more[2, 0] = 1
    changed = held_out(batch_of(), more) != held_out(batch_of(), MASK)
    np.testing.assert_array_equal(changed, np.arange(ROWS) == 2)
    np.testing.assert_allclose(
        held_out(batch_of(), 0 * MASK), held_out(batch_of()), rtol=1e-6)

  def test_rows_are_given_lengths_in_turn(self):
    rows = np.array([3, 0, 1, 5])
    np.testing.assert_array_equal(
        objective().given_mask(batch_of(rows=rows)),
        [[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]])


def evaluation(built, batches, drawn, num_samples=0):
  """What a run evaluates, with clips that are the latents themselves."""

  class Tokenizer:
    def apply(self, variables, latents, method):
      del variables, method
      return jnp.repeat(latents[..., :1], 3, -1) / 8

  def draw(params, keys, conditioning, level):
    del level
    drawn.append(jax.tree.map(lambda x: x, conditioning))
    mask = jnp.zeros((len(keys), 3)) if conditioning.frame_mask is None else (
        conditioning.frame_mask)
    return mask[..., None, None, None] * jnp.full(
        (len(keys), *SHAPE), params['x'])

  return denoiser_eval.DenoiserEvaluation(
      built, lambda frozen, batch, key: batch, Tokenizer(), draw, batches,
      jax.sharding.SingleDeviceSharding(jax.devices()[0]),
      classes=('a', 'b', 'c', 'd', 'e'), num_samples=num_samples)


def evaluate(run, key):
  params = jax.tree.map(jnp.float32, WEIGHTS)
  state = train_state.TrainState(
      step=jnp.int32(0), params=params, opt_state=(), ema={})
  frozen = dict(tokenizer=dict(
      params={}, statistics=statistics.identity_statistics(2)))
  return run(state, frozen, key)


class EvaluationTest(parameterized.TestCase):

  @parameterized.parameters((0.0, False), (0.49, False), (0.5, True))
  def test_what_is_trained_is_monitored(self, probability, given):
    batches = [batch_of(0), batch_of(1)]
    scores, images = evaluate(
        evaluation(objective(probability), batches, []), KEY)
    self.assertEqual(images, {})
    expected = {'v_loss': [], 'v_loss_given': []}
    for quartile in range(4):
      plain, continued = [], []
      for index, batch in enumerate(batches):
        key = jax.random.fold_in(jax.random.fold_in(KEY, index), quartile)
        times = [np.ceil(1000 * (quartile + (row + 0.5) / ROWS) / 4) / 1000
                 for row in range(ROWS)]
        plain += expected_loss(batch, times, key)
        mask = [[1, 0, 0], [1, 1, 0]] * 3
        continued += expected_loss(batch, times, key, mask)[:4]  # Videos.
      expected['v_loss'].append(np.mean(plain))
      expected['v_loss_given'].append(np.mean(continued))
    if not given:
      del expected['v_loss_given']
    self.assertLen(scores, 5 * len(expected))
    for name, losses in expected.items():
      self.assertAlmostEqual(scores[name], np.mean(losses), 4)
      np.testing.assert_allclose(
          [scores[f'{name}_q{i + 1}'] for i in range(4)], losses, rtol=1e-4)

  @parameterized.parameters((0.49, ('samples',)),
                            (0.5, ('samples', 'samples_given')))
  def test_samples_continue_what_training_gives(self, probability, names):
    drawn = []
    _, images = evaluate(
        evaluation(objective(probability), [batch_of()], drawn, 3), KEY)
    self.assertEqual(tuple(images), names)
    self.assertLen(drawn, 1)  # One program.
    self.assertEqual(drawn[0].frame_mask is not None, len(names) == 2)
    # Frames that are given come out in one grey, three rows of 1, 2, 1.
    grey = round(127.5 * (1 + WEIGHTS['x'] / 8))
    found = [int((image == grey).all(axis=-1).sum())
             for image in images.values()]
    self.assertEqual(found, [0, 4 * 64 * 64][:len(names)])


if __name__ == '__main__':
  absltest.main()
