"""What `fsdp` cuts of a state, and the sizes that are chosen or refused."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from walt_jax.core import errors
from walt_jax.parallel import cuts
from walt_jax.parallel import rules as partition

RULES = partition.DENOISER_RULES


def leaf(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


# Widths of 12 and 24: no power of two above 4 divides both.
STATE = dict(mlp_in=dict(kernel=leaf(12, 24), bias=leaf(24)),
             mlp_out=dict(kernel=leaf(24, 12), bias=leaf(12)))


class CutsTest(parameterized.TestCase):

  @parameterized.parameters(
      (1, 1, 0., 612 * 4), (4, 1, 576 / 612, (36 + 144) * 4),
      # 24 of the other axis divides by 8.
      (8, 1, 576 / 612, (36 + 72) * 4), (4, 2, 576 / 612, (12 + 12 + 72) * 4),
      # 24 goes to `tensor`, and 12 does not divide by 8.
      (8, 2, 0., (12 + 12 + 288) * 4), (5, 1, 0., 612 * 4))
  def test_bytes_by_hand(self, fsdp, tensor, share, held):
    found = cuts.cut(STATE, dict(fsdp=fsdp, tensor=tensor), RULES)
    self.assertEqual(found.total_bytes, 612 * 4)
    self.assertAlmostEqual(found.share, share)
    self.assertEqual(found.device_bytes, held)

  def test_another_axis_is_cut_where_the_first_does_not_divide(self):
    spec = lambda shape, fsdp, tensor=1: partition.placed_spec(
        'a/out/kernel', shape, dict(data=1, fsdp=fsdp, tensor=tensor), RULES)
    self.assertEqual(spec((3, 4, 16, 24), 8), P(None, 'tensor', None, 'fsdp'))
    self.assertEqual(spec((3, 4, 16, 20), 8), P(None, 'tensor', 'fsdp', None))
    # Layers of a scan are no axis of the leaf's own.
    self.assertEqual(spec((8, 4, 6, 20), 8), P(None, 'tensor', None, None))
    # The longest of those that are left.
    self.assertEqual(spec((3, 8, 16, 20), 8, 3), P(None, None, 'fsdp', None))

  @parameterized.parameters((1, 1), (2, 2), (8, 8), (32, 16), (40, 40), (7, 7))
  def test_the_largest_size_is_chosen(self, limit, chosen):
    state = dict(mlp_in=dict(kernel=leaf(120, 240)))
    self.assertEqual(cuts.largest_fsdp(state, limit, 1, RULES), chosen)

  def test_the_most_is_cut_where_no_size_is_enough(self):
    self.assertEqual(cuts.largest_fsdp(STATE, 16, 1, RULES), 8)
    state = STATE | dict(embedding=dict(kernel=leaf(5, 60)))
    self.assertEqual(cuts.largest_fsdp(state, 16, 1, RULES), 4)
    self.assertEqual(cuts.largest_fsdp(state, 7, 1, RULES), 7)

  def test_vectors_and_tables_do_not_count(self):
    """They are whole on every device by design, however many there are."""
    state = STATE | dict(label_embedding=dict(embedding=leaf(1000, 16)))
    found = cuts.cut(state, dict(fsdp=4, tensor=1), RULES)
    self.assertAlmostEqual(found.share, 576 / 16612)
    self.assertEqual(found.share_of_rules, 1)
    cuts.check_fsdp(state, 4, 4, 1, RULES)

  def test_wrong_sizes_are_refused_with_those_that_are_not(self):
    state = dict(mlp_in=dict(kernel=leaf(96, 96)))
    cuts.check_fsdp(state, 32, 64, 1, RULES)
    with self.assertRaisesRegex(
        errors.UserError, 'mesh.fsdp is 64, which leaves 100% .*; set '
        'mesh.fsdp=32, or -1'):
      cuts.check_fsdp(state, 64, 64, 1, RULES)
    with self.assertRaisesRegex(
        errors.UserError, 'mesh.fsdp=8 or mesh.fsdp=12, or -1'):
      cuts.check_fsdp(state, 9, 24 * 9, 4, RULES)
    with self.assertRaisesRegex(errors.UserError, 'set mesh.fsdp=1, or'):
      cuts.check_fsdp(state, 7, 7, 1, RULES)


if __name__ == '__main__':
  absltest.main()
