from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types
from walt_jax.diffusion import guidance
from walt_jax.diffusion import network as network_lib

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
    self.timestep = np.float32(0.3)
    self.conditioning = make_conditioning()
    filled = self.conditioning.replace(text_mask=np.ones((B, 1, 2), bool))
    self.plain = self.output(guidance.Guidance(), conditioning=filled)

  def output(self, options, model=toy_model, conditioning=None, timestep=None):
    """Output of a model that is bound to conditions and guided."""
    if conditioning is None:
      conditioning = self.conditioning

    def call(x, timestep, conditioning):
      network = guidance.guided(network_lib.of_function(model), options)
      return network(conditioning, B)(x, timestep, None)

    return jax.jit(call)(
        self.x, self.timestep if timestep is None else timestep, conditioning)

  def guided(self, **options):
    return self.output(guidance.Guidance(null_label=NULL, **options))

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
    self.output(options, model, types.Conditioning())
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
    out = self.output(both, model, conditioning)
    np.testing.assert_allclose(
        out - self.plain, np.broadcast_to(
            3 * speed.reshape(B, 1, 1, 1, 1), out.shape), atol=1e-5)

  @parameterized.parameters(
      (dict(schedule='interval', interval=(0.2, 0.5)), 0.3, 3 * B),
      (dict(schedule='interval', interval=(0.2, 0.5)), 0.6, B),
      (dict(schedule='interval', interval=(0.2, 0.5)), 0.5, 3 * B),
      (dict(schedule='power_cosine'), 1.0, B),
      (dict(schedule='power_cosine'), 0.9, 3 * B),
      (dict(), 1.0, 3 * B))
  def test_a_step_without_strength_takes_one_pass(
      self, schedule, timestep, rows):
    """And comes out as all passes of it, weighed, would."""
    passes = []

    def model(x_t, timestep, conditioning):
      jax.debug.callback(lambda t: passes.append(len(t)), timestep)
      return toy_model(x_t, timestep, conditioning)

    scales = dict(null_label=NULL, label=3.0, text=4.0)
    options = guidance.Guidance(**scales, **schedule)
    timestep = np.float32(timestep)
    out = self.output(options, model, timestep=timestep)
    jax.effects_barrier()
    self.assertEqual(passes, [rows])
    # Guidance is linear in the scale.
    constant = self.output(guidance.Guidance(**scales), timestep=timestep)
    filled = self.conditioning.replace(text_mask=np.ones((B, 1, 2), bool))
    plain = self.output(guidance.Guidance(), conditioning=filled,
                     timestep=timestep)
    np.testing.assert_allclose(
        out, plain + options.strength(timestep) * (constant - plain),
        atol=1e-5)

  def test_conditions_are_bound_once(self):
    """Not at each of the passes that follow."""
    bound = []

    def network(conditioning, num_rows):
      bound.append((num_rows, conditioning.label.shape))
      return lambda x_t, timestep, self_cond: x_t

    options = guidance.Guidance(label=2.0, null_label=NULL)
    evaluate = guidance.guided(network, options)(self.conditioning, B)
    for _ in range(2):
      evaluate(self.x, self.timestep, None)
    self.assertEqual(bound, [(2 * B, (2 * B, 1))])

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
      self.output(guidance.Guidance(label=2.0))
    with self.assertRaisesRegex(ValueError, 'sometimes'):
      guidance.Guidance(schedule='sometimes')
    with self.assertRaisesRegex(ValueError, 'nan'):
      guidance.Guidance(text=float('nan'))
    with self.assertRaisesRegex(ValueError, 'interval'):
      guidance.Guidance(interval=(0.5, 0.2))


if __name__ == '__main__':
  absltest.main()
