from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types
from walt_jax.diffusion import guidance

B, SHAPE = 3, (2, 2, 2, 1)
NULL = 10


def toy_model(x_t, timestep, conditioning):
  """Conditions shift the output by amounts that a test can work out."""
  b = x_t.shape[0]
  out = x_t * 0.5 + timestep[..., None, None, None]
  label = conditioning.label[:, 0].astype(jnp.float32)
  out += jnp.where(label == NULL, 0., 1 + label).reshape(b, 1, 1, 1, 1)
  words = (conditioning.text[..., 0] * conditioning.text_mask).sum((1, 2))
  out += words.reshape(b, 1, 1, 1, 1)
  return out + conditioning.frame_cond


def make_conditioning():
  mask = np.asarray([[1., 0.], [0., 0.], [1., 0.]], np.float32)
  text = np.ones((B, 1, 2, 1)) * np.arange(1., 4)[:, None, None, None]
  return types.Conditioning(
      label=np.asarray([[1], [2], [NULL]]), text=text.astype(np.float32),
      frame_mask=mask,
      frame_cond=mask[..., None, None, None] * np.ones((B, *SHAPE), np.float32))


class GuidanceTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.x = np.random.default_rng(0).standard_normal(
        (B, *SHAPE), np.float32)
    self.timestep = np.full((B, 1), 0.3, np.float32)
    self.conditioning = make_conditioning()
    filled = self.conditioning.replace(text_mask=np.ones((B, 1, 2), bool))
    self.plain = jax.jit(toy_model)(self.x, self.timestep, filled)

  def guided(self, **options):
    options = guidance.Guidance(null_label=NULL, **options)
    return jax.jit(guidance.guided(toy_model, options))(
        self.x, self.timestep, self.conditioning)

  def test_scale_one_is_no_guidance(self):
    model = lambda *args: self.fail('never called')
    self.assertIs(guidance.guided(model, guidance.Guidance()), model)
    barely = self.guided(label=1 + 1e-7)
    np.testing.assert_allclose(barely, self.plain, atol=1e-5)

  def test_each_condition_has_its_own_scale(self):
    out = self.guided(label=3.0, text=0.0, frames=2.0)
    extra = out - self.plain
    label = np.asarray([2., 3., 0.]).reshape(B, 1, 1, 1, 1)
    words = np.asarray([2., 4., 6.]).reshape(B, 1, 1, 1, 1)
    expected = 2 * label - words + self.conditioning.frame_cond
    np.testing.assert_allclose(extra, np.broadcast_to(expected, extra.shape),
                               atol=1e-5)

  def test_one_condition_is_null_plus_scaled_difference(self):
    zero = self.guided(text=0.0)
    out = self.guided(text=4.0)
    np.testing.assert_allclose(
        out, zero + 4 * (self.plain - zero), atol=1e-5)

  def test_absent_conditions_cost_nothing(self):
    shapes = []

    def model(x_t, timestep, conditioning):
      del timestep, conditioning
      shapes.append(x_t.shape)
      return x_t

    options = guidance.Guidance(text=4.0, frames=2.0)
    jax.eval_shape(guidance.guided(model, options), self.x, self.timestep,
                   types.Conditioning())
    self.assertEqual(shapes, [self.x.shape])

  def test_a_condition_of_the_users_own_has_a_scale_too(self):

    def model(x_t, timestep, conditioning):
      given = conditioning.own_mask['speed'] * conditioning.own['speed']
      return toy_model(x_t, timestep, conditioning) + (
          given.reshape(-1, 1, 1, 1, 1))

    both = guidance.of({'speed': 3.0, 'label': 1.0})
    self.assertEqual(both.scales, {'speed': 3.0})
    speed = np.asarray([[1.], [2.], [3.]], np.float32)
    conditioning = self.conditioning.replace(own=dict(speed=speed))
    out = jax.jit(guidance.guided(model, both))(
        self.x, self.timestep, conditioning)
    np.testing.assert_allclose(
        out - self.plain, np.broadcast_to(
            3 * speed.reshape(B, 1, 1, 1, 1), out.shape), atol=1e-5)

  def test_schedules(self):
    timestep = jnp.asarray([1.0, 0.6, 0.3, 0.0])
    strength = lambda **options: guidance.Guidance(**options).strength(
        timestep)
    np.testing.assert_array_equal(strength(), np.ones(4))
    np.testing.assert_array_equal(
        strength(schedule='interval', interval=(0.2, 0.5)), [0, 0, 1, 0])
    grown = np.asarray(strength(schedule='power_cosine', power=2.0))
    np.testing.assert_allclose(grown[[0, -1]], [0, 1], atol=1e-6)
    self.assertTrue(np.all(np.diff(grown) > 0))

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, 'null label'):
      guidance.guided(toy_model, guidance.Guidance(label=2.0))(
          self.x, self.timestep, self.conditioning)
    with self.assertRaisesRegex(ValueError, 'sometimes'):
      guidance.Guidance(schedule='sometimes')
    with self.assertRaisesRegex(ValueError, 'nan'):
      guidance.Guidance(text=float('nan'))
    with self.assertRaisesRegex(ValueError, 'interval'):
      guidance.Guidance(interval=(0.5, 0.2))


if __name__ == '__main__':
  absltest.main()
