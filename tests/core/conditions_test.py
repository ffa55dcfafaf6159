"""Conditions of the user's own, left out like those that are built in."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import conditions
from walt_jax.core import types


def conditioning(rows=2, frames=1, **fields):
  return types.Conditioning(
      label=jnp.zeros((rows, frames), jnp.int32),
      own=dict(speed=jnp.ones((rows, frames)),
               wind=jnp.ones((rows, frames, 2))), **fields)


class OwnConditionsTest(parameterized.TestCase):

  def test_one_is_left_out_and_the_others_stay(self):
    before = conditioning()
    where = jnp.asarray([[True], [False]])
    after = conditions.drop(before, 'wind', where)
    np.testing.assert_array_equal(after.own_mask['wind'], ~where)
    np.testing.assert_array_equal(after.own_mask['speed'], [[True], [True]])
    self.assertIs(after.label, before.label)
    again = conditions.drop(after, 'wind', ~where)  # What is out stays out.
    self.assertFalse(again.own_mask['wind'].any())

  def test_masks_in_place_have_one_structure(self):
    before = conditioning(text=jnp.zeros((2, 1, 3, 4)))
    filled = conditions.with_masks(before)
    self.assertEqual(filled.text_mask.shape, (2, 1, 3))
    for name in ('speed', 'wind', 'text'):
      self.assertEqual(
          jax.tree.structure(conditions.null(filled, name)),
          jax.tree.structure(filled))

  @parameterized.parameters(None, True)
  def test_each_is_left_out_as_often_as_it_says(self, are_images):
    rows, frames = 2000, 3
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(0), jnp.arange(rows))
    before = conditioning(rows, frames)
    if are_images:
      before = before.replace(is_image=jnp.ones(rows, bool))
    after = conditions.drop_conditions(
        keys, before, conditions.DropProbabilities(
            label=0.5, own=(('speed', 0.25), ('wind', 0.0))), null_label=7)
    left_out = ~np.asarray(after.own_mask['speed'])
    self.assertAlmostEqual(left_out.mean(), 0.25, delta=0.03)
    self.assertTrue(after.own_mask['wind'].all())
    # Images of a row are decided one by one, a video for all its frames.
    self.assertEqual((left_out[:, :1] == left_out).all(), not are_images)
    # Independently of the label.
    label_out = np.asarray(after.label) == 7
    self.assertAlmostEqual(
        (left_out & label_out).mean(), 0.125, delta=0.03)

  def test_own_conditions_change_no_draw_of_built_in_ones_by_being_unused(
      self):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(0), jnp.arange(50))
    label = types.Conditioning(label=jnp.zeros((50, 1), jnp.int32))
    drop = lambda chances: conditions.drop_conditions(
        keys, label, chances, null_label=7).label
    np.testing.assert_array_equal(
        drop(conditions.DropProbabilities(label=0.5)),
        7 * (np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (1, 3)))(
            keys))[..., 0] < 0.5))

  def test_a_batch_without_it_is_refused(self):
    batch = types.LatentBatch(
        jnp.zeros((2, 1, 1, 1, 1)), jnp.zeros(2, bool),
        own=dict(speed=jnp.ones((2, 1)), other=jnp.ones((2, 1))))
    found = conditions.from_batch(
        batch, use_label=False, use_text=False, own=['speed'])
    self.assertEqual(list(found.own), ['speed'])
    with self.assertRaisesRegex(ValueError, 'conditioned on wind'):
      conditions.from_batch(
          batch, use_label=False, use_text=False, own=['speed', 'wind'])

  def test_a_wrong_probability_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'speed.*1.5'):
      conditions.DropProbabilities(own=(('speed', 1.5),))


if __name__ == '__main__':
  absltest.main()
