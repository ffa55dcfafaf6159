"""Tests of the tokenizer's losses."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types
from walt_jax.tokenizer import losses


def _clips(seed=0, shape=(2, 3, 8, 8, 3)):
  return jax.random.uniform(jax.random.key(seed), shape, minval=-1, maxval=1)


class LossesTest(parameterized.TestCase):

  def test_reconstruction_against_hand(self):
    x = jnp.zeros((2, 3, 4, 4, 3))
    y = x.at[1].add(0.2)
    self.assertAlmostEqual(float(losses.reconstruction(y, x, 'l1')), 0.1, 6)
    self.assertAlmostEqual(float(losses.reconstruction(y, x, 'l2')), 0.02, 6)
    with self.assertRaisesRegex(ValueError, "'l3'"):
      losses.reconstruction(y, x, 'l3')

  def test_perceptual_is_zero_only_for_equal_images(self):
    kernel = jax.random.normal(jax.random.key(3), (3, 8))
    features = lambda x: [x @ kernel, jnp.tanh(x[:, ::2, ::2] @ kernel)]
    a, b = _clips(0)[:, 0], _clips(1)[:, 0]
    self.assertAlmostEqual(float(losses.perceptual(features, a, a)), 0)
    self.assertGreater(float(losses.perceptual(features, a, b)), 0.1)
    # Bounded, as unit features make it: no layer outweighs another.
    self.assertLessEqual(float(losses.perceptual(features, a, -a)), 4.0)
    grads = jax.grad(lambda y: losses.perceptual(features, a, y))(b)
    self.assertFalse(np.abs(grads).any())

  def test_frames_are_picked_without_replacement(self):
    frames = losses.pick_frames(jax.random.key(0), 17, 5)
    self.assertLen(set(frames.tolist()), 5)
    np.testing.assert_array_equal(
        losses.pick_frames(jax.random.key(0), 3, 5), [0, 1, 2])

  def test_kl_against_monte_carlo(self):
    posterior = types.Posterior(jnp.full((1,), 0.7), jnp.full((1,), -1.0))
    std = np.exp(-0.5)
    z = 0.7 + std * np.random.default_rng(0).normal(size=200_000)
    log_q = -0.5 * np.square((z - 0.7) / std) - np.log(std)
    estimate = np.mean(log_q + 0.5 * np.square(z))
    self.assertAlmostEqual(float(losses.kl(posterior)), estimate, delta=0.01)

  @parameterized.parameters(*losses.ADVERSARIAL)
  def test_players_pull_logits_apart(self, kind):
    real, fake = jnp.array([0.3, -0.2]), jnp.array([0.1, 0.4])
    d_real, d_fake = jax.grad(losses.discriminator_loss, (0, 1))(
        real, fake, kind)
    self.assertTrue((d_real < 0).all() and (d_fake > 0).all())
    self.assertTrue((jax.grad(losses.generator_loss)(fake, kind) < 0).all())
    with self.assertRaisesRegex(ValueError, 'minimax'):
      losses.generator_loss(fake, 'minimax')

  def test_non_saturating_loss_at_chance_is_two_log_two(self):
    zeros = jnp.zeros(4)
    self.assertAlmostEqual(
        float(losses.discriminator_loss(zeros, zeros, 'non_saturating')),
        2 * np.log(2), places=6)

  def test_lecam_is_zero_inside_the_anchors_only(self):
    zero = jnp.zeros(())
    self.assertEqual(
        float(losses.lecam(-jnp.ones(3), jnp.ones(3), zero, zero)), 0.0)
    self.assertEqual(
        float(losses.lecam(2 * jnp.ones(3), -jnp.ones(3), zero, zero)), 5.0)

  def test_lecam_of_unlike_anchors(self):
    # Reals from the fakes' -0.5: 3.5, 1.5; fakes from the reals' 1: 1, 3.
    found = losses.lecam(
        jnp.asarray([3., 1.]), jnp.asarray([0., -2.]), jnp.asarray(1.),
        jnp.asarray(-0.5))
    self.assertEqual(
        float(found), (3.5**2 + 1.5**2) / 2 + (1**2 + 3**2) / 2)

  def test_r1_of_a_linear_critic_is_half_its_squared_weights(self):
    weight = jax.random.normal(jax.random.key(0), (3, 4, 4, 3))
    critic = lambda x: jnp.stack([(x * weight).sum((1, 2, 3, 4))] * 2, axis=1)
    expected = 0.5 * jnp.square(weight).sum()
    np.testing.assert_allclose(
        losses.r1(critic, _clips(shape=(5, 3, 4, 4, 3))), expected, rtol=1e-5)

  def test_weights_in_magvits_units(self):
    """docs/training.md: its pixels are in [0, 1], a clip's logit a number."""
    weight = jax.random.normal(jax.random.key(0), (3, 4, 4, 3))
    critic = lambda x: jnp.square(x * weight).sum((1, 2, 3, 4))
    ours, made = _clips(shape=(5, 3, 4, 4, 3)), _clips(1, (5, 3, 4, 4, 3))
    theirs = (ours + 1) / 2
    # MAGVIT's `r1_gradient_penalty`, of cost 10.
    gradient = jax.grad(lambda x: critic(2 * x - 1).sum())(theirs)
    penalty = 10.0 * jnp.square(gradient.reshape(5, -1)).sum(-1).mean()
    np.testing.assert_allclose(
        80.0 * losses.r1(lambda x: critic(x)[:, None], ours), penalty,
        rtol=1e-5)
    error = jnp.square(theirs - (made + 1) / 2).mean()
    np.testing.assert_allclose(
        losses.reconstruction(made, ours, 'l2') / 4, error, rtol=1e-5)

  def test_adaptive_weight_balances_gradients(self):
    a, b = {'x': jnp.full(4, 3.0)}, {'x': jnp.full(4, 0.5)}
    np.testing.assert_allclose(losses.adaptive_weight(a, b), 6.0, rtol=1e-3)
    self.assertEqual(losses.adaptive_weight(a, {'x': jnp.zeros(4)}), 1e4)


if __name__ == '__main__':
  absltest.main()
