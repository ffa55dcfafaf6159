"""Attention in turns equals attention at once, whatever the turns."""
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models import attention
from walt_jax.models import mapped_attention

HEADS, LENGTH, TEXT, WIDTH = 2, 6, 3, 4


def inputs(lead, text, dtype=jnp.float32):
  """Queries, keys, values, bias and mask of windows."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  keys = LENGTH + TEXT * text
  mask = jnp.asarray(rng.random((*lead, keys)) < 0.7).at[..., 0].set(True)
  key, value = (normal(*lead, keys, HEADS, WIDTH) for _ in range(2))
  return (normal(*lead, LENGTH, HEADS, WIDTH), key, value,
          None if text else normal(HEADS, LENGTH, keys).astype(jnp.float32),
          mask if text else None)


def in_turns(num_windows, *given):
  """`mapped_attention.attend` with so many windows a turn."""
  keys = given[1].shape[-3]
  with mock.patch.object(mapped_attention, 'MAX_LOGITS',
                         num_windows * HEADS * LENGTH * keys):
    return mapped_attention.attend(*given)


class MappedAttentionTest(parameterized.TestCase):

  @parameterized.product(text=(False, True), windows=(1, 4))
  def test_outputs_and_gradients_are_those_of_the_plain_form(
      self, text, windows):
    *floats, mask = inputs((2, 4), text)

    def both(*values):
      plain = lambda *x: attention.attend(
          *x[:3], bias=x[3], mask=mask, form='xla')
      mapped = lambda *x: in_turns(windows, *x, mask)
      weights = jnp.cos(jnp.arange(floats[0].size)).reshape(floats[0].shape)
      return [jax.value_and_grad(
          lambda x, f=form: ((out := f(*x)) * weights).sum() +
          jnp.square(out).sum())(values) for form in (plain, mapped)]

    expected, found = jax.jit(both)(*floats)
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
      np.testing.assert_allclose(
          one, other, rtol=0, atol=1e-5 * np.abs(other).max())

  def test_the_type_of_values_is_kept(self):
    given = inputs((1, 4), text=False, dtype=jnp.bfloat16)
    found = in_turns(2, *given)
    self.assertEqual(found.dtype, jnp.bfloat16)
    exact = in_turns(2, *(x if x is None else x.astype(jnp.float32)
                          for x in given))
    np.testing.assert_allclose(found, exact, atol=0.03)

  def test_logits_of_one_turn_alone_are_kept(self):
    """The backward pass has no array of the size of all logits."""
    *floats, _ = inputs((3, 5), text=False)
    gradient = jax.grad(
        lambda *x: in_turns(1, *x, None).sum(), argnums=(0, 1, 2, 3))
    text = str(jax.make_jaxpr(gradient)(*floats))
    self.assertIn(f'{HEADS},{LENGTH},{LENGTH}]', text)
    for several in ('3,5,', '15,1,1,', '15,'):
      self.assertNotIn(f'[{several}{HEADS},{LENGTH},{LENGTH}]', text)

  @parameterized.parameters(
      (20, 2**18, 2), (16, 4 * 320 * 320, 1), (20, 2**15, 10), (7, 2**17, 1),
      (6, 1, 6), (3, 2**30, 1))
  def test_a_turn_takes_what_stays_in_cache(self, windows, logits, expected):
    self.assertEqual(mapped_attention.group_size(windows, logits), expected)

  def test_rows_stay_on_their_devices(self):
    """A cut batch is in every turn: nothing is gathered."""
    devices = jax.devices()
    if len(devices) < 2:
      self.skipTest('one device')
    mesh = jax.make_mesh(
        (2,), ('data',), axis_types=(jax.sharding.AxisType.Auto,),
        devices=devices[:2])
    given = inputs((2, 4), text=False)
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    with jax.set_mesh(mesh):
      program = jax.jit(
          lambda *x: in_turns(2, *x, None),
          in_shardings=(rows, rows, rows, whole), out_shardings=rows
      ).lower(*given[:4]).compile()
      found = program(*(jax.device_put(x, s) for x, s in zip(
          given, (rows, rows, rows, whole), strict=False)))
    self.assertNotIn('all-gather', program.as_text())
    np.testing.assert_allclose(found, in_turns(8, *given), atol=1e-5)


if __name__ == '__main__':
  absltest.main()
