"""Rows that are given an estimate of x_0: as many as asked for, and which."""
import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.diffusion import noise
from walt_jax.diffusion import self_conditioning
from walt_jax.parallel import mesh as mesh_lib

NUM_ROWS = 64


def estimate(groups, num_rows=NUM_ROWS, first=0, seed=0):
  """Estimates of rows that hold their own numbers, and the rows passed."""
  rows = dict(number=1. + np.arange(
      first, first + num_rows, dtype=np.float32)[:, None],
              flag=np.arange(num_rows) > 0)
  passed = []

  def first_pass(some):
    passed.append(some['number'].shape[0])
    return 2 * some['number']

  @jax.jit
  def run(rows):
    keys = noise.row_keys(jax.random.key(seed), num_rows, first)
    return groups.estimate(
        first_pass, rows, noise.fold(keys, 1), noise.uniform(keys, ()))

  return np.asarray(run(rows))[:, 0], passed[0]


@jax.jit
def draws():
  """Keys of the rows, and a number that each draws."""
  keys = noise.row_keys(jax.random.key(0), NUM_ROWS)
  return keys, noise.uniform(keys, ())


class SelfConditioningTest(parameterized.TestCase):

  @parameterized.parameters(
      (0.9, 16, 60), (0.3, 16, 20), (0.25, 16, 16), (0.7, 10, None),
      (1.0, 16, 64), (0.5, 1, 64))
  def test_as_few_rows_as_are_needed_make_their_own_estimates(
      self, probability, size, passed):
    num_rows = NUM_ROWS if passed else 60
    groups = self_conditioning.Groups(probability, size, in_shards=True)
    out, found = estimate(groups, num_rows)
    self.assertEqual(found, passed or 42)  # 0.7 * 10 is a whole number.
    own = 2 * (1 + np.arange(num_rows))
    np.testing.assert_array_equal(out[out != 0], own[out != 0])
    self.assertLessEqual((out != 0).sum(), found)

  @parameterized.parameters(0.9, 0.3, 0.25)
  def test_the_expected_share_is_the_probability_everywhere(self, probability):
    groups = self_conditioning.Groups(probability, 16, in_shards=True)
    given = jax.jit(jax.vmap(lambda seed: jnp.asarray(groups.estimate(
        lambda x: x, jnp.ones((32, 1)),
        noise.fold(noise.row_keys(jax.random.key(seed), 32), 1),
        noise.uniform(noise.row_keys(jax.random.key(seed), 32), ())))))(
            np.arange(2_000))[..., 0]
    share = np.asarray(given).mean(0)  # Of each place in a group.
    np.testing.assert_allclose(share, probability, atol=0.05)
    self.assertAlmostEqual(share.mean(), probability, delta=0.005)

  def test_a_group_knows_nothing_of_the_batch(self):
    groups = self_conditioning.Groups(0.5, 16, in_shards=True)
    whole, _ = estimate(groups)
    part, _ = estimate(groups, 16, first=32)
    np.testing.assert_array_equal(part, whole[32:48])

  def test_rows_of_one_draw_for_themselves(self):
    out, _ = estimate(self_conditioning.Groups(0.5, 1))
    _, uniform = draws()
    np.testing.assert_array_equal(out != 0, uniform < 0.5)

  def test_shards_of_whole_groups_stay_where_they_are(self):
    mesh = mesh_lib.make_mesh(4, 1, 1, devices=jax.devices()[:4])
    rows = mesh_lib.batch_sharding(mesh)
    groups = self_conditioning.Groups(0.5, 16, in_shards=True)

    def run(x, keys, uniform):
      return groups.estimate(lambda x: jnp.sin(x), x, keys, uniform)

    keys, uniform = draws()
    inputs = (np.random.default_rng(1).normal(size=(NUM_ROWS, 8)).astype(
        np.float32), keys, uniform)
    alone = jax.jit(run)(*inputs)
    compiled = jax.jit(
        run, in_shardings=(rows,) * 3, out_shardings=rows).lower(
            *inputs).compile()
    for collective in ('all-gather', 'all-to-all', 'collective-permute',
                       'all-reduce'):
      self.assertNotIn(collective, compiled.as_text())
    np.testing.assert_array_equal(
        compiled(*jax.device_put(inputs, rows)), alone)

  @parameterized.parameters(NUM_ROWS, 40)
  def test_the_choice_is_the_same_without_whole_groups(self, num_rows):
    groups = self_conditioning.Groups(0.5, 16)
    whole, _ = estimate(dataclasses.replace(groups, in_shards=True))
    found, passed = estimate(groups, num_rows)
    self.assertEqual(passed, num_rows)
    np.testing.assert_array_equal(found, whole[:num_rows])


if __name__ == '__main__':
  absltest.main()
