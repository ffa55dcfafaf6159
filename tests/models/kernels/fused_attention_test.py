"""Kernels of window attention against its plain form, interpreted."""
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import operands as operands_lib
from walt_jax.models.kernels import tpu_layout
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition

# Compiling is what these tests spend their time on.
QUICK = {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True}
INTERPRETED = ('fused_tpu_interpreted',)
NOT_DIFFERENTIABLE = ('is_image', 'text_mask')


def make(grid, window, heads, width, *, batch=2, norm=True, bias=True,
         image=False, num_texts=0, dtype=jnp.float32):
  """Random operands; a text has 8 tokens, some of which are hidden."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.standard_normal(shape, np.float32))
  tokens = lambda: normal(batch, *grid, heads, width).astype(dtype)
  text = lambda: normal(batch, num_texts, 8, heads, width).astype(dtype)
  length = np.prod(window)
  return operands_lib.Operands(
      tokens(), tokens(), tokens(),
      1 + normal(width) / 3 if norm else None,
      1 + normal(width) / 3 if norm else None,
      normal(heads, length, length) if bias else None,
      jnp.arange(batch) % 2 == 1 if image else None,
      text() if num_texts else None, text() if num_texts else None,
      jnp.asarray(rng.random((batch, num_texts, 8)) < 0.6)
      if num_texts else None)


def run(form, operands, window):
  """Context and gradients of a random weighted sum of it, float32."""
  rng = np.random.default_rng(1)
  weights = rng.standard_normal(operands.query.shape, np.float32)

  def loss(smooth, rest):
    context = fused_attention.attend(
        operands_lib.Operands(**smooth, **rest), window, form)
    return jnp.sum(context.astype(jnp.float32) * weights), context

  smooth = operands._asdict()
  rest = {name: smooth.pop(name) for name in NOT_DIFFERENTIABLE}
  (_, context), gradients = jax.jit(
      jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)(
          smooth, rest)
  found = {'context': context} | gradients
  return {name: np.asarray(x, np.float32) for name, x in found.items()
          if x is not None}


def largest_error(expected, found):
  """The largest difference, relative to the largest expected value."""
  return np.abs(expected - found).max() / np.abs(expected).max()


class FusedAttentionTest(parameterized.TestCase):

  @parameterized.product(form=INTERPRETED, case=(
      dict(grid=(2, 4, 4), window=(1, 4, 4), heads=4, width=64),
      # Windows are read from the grid; every other row is an image.
      dict(grid=(2, 2, 16), window=(2, 1, 8), heads=2, width=64, image=True),
      dict(grid=(1, 4, 8), window=(1, 4, 8), heads=16, width=72, norm=False),
      dict(grid=(2, 4, 4), window=(1, 4, 4), heads=16, width=88, bias=False,
           num_texts=2),
      dict(grid=(2, 4, 4), window=(1, 4, 4), heads=8, width=112, bias=False,
           num_texts=1),
      # Lanes of all heads that are no whole tiles, and less than one.
      dict(grid=(2, 2, 8), window=(2, 1, 8), heads=2, width=88, bias=False,
           num_texts=1),
      dict(grid=(2, 4, 4), window=(1, 4, 4), heads=3, width=24, image=True),
  ))
  def test_equals_the_plain_form(self, form, case):
    operands = make(**case)
    expected = run('xla', operands, case['window'])
    found = run(form, operands, case['window'])
    self.assertEqual(expected.keys(), found.keys())
    for name, x in expected.items():
      self.assertLess(largest_error(x, found[name]), 1e-5, name)

  @mock.patch.object(tpu_layout, '_QUERY_BLOCKS', (128, 128))
  def test_windows_of_several_blocks_of_queries(self):
    self.assertEqual(tpu_layout.query_block(144, is_backward=True), 128)
    case = dict(grid=(1, 12, 12), window=(1, 12, 12), heads=2, width=64,
                batch=1)
    operands = make(**case)
    expected = run('xla', operands, case['window'])
    found = run('fused_tpu_interpreted', operands, case['window'])
    for name, x in expected.items():
      self.assertLess(largest_error(x, found[name]), 1e-5, name)

  @parameterized.parameters(
      (64, 128, 128), (448, 512, 512), (560, 640, 384), (1024, 512, 512))
  def test_blocks_of_queries_are_alike_and_whole_tiles(
      self, length, forward, backward):
    self.assertEqual(
        [tpu_layout.query_block(length, is_backward)
         for is_backward in (False, True)], [forward, backward])

  def test_groups_that_share_a_tile_of_lanes(self):
    """Two groups of eight heads of 88: both write to the sixth tile."""
    case = dict(grid=(2, 4, 4), window=(1, 4, 4), heads=16, width=88)
    operands = make(**case)
    expected = run('xla', operands, case['window'])
    with mock.patch.object(tpu_layout, 'VMEM_LIMIT', 5 * 2**20):
      plan = tpu_layout.Plan(
          2, (2, 1, 16), (1, 1, 16), 16, 88, True, 0, 1, 4, is_backward=True)
      self.assertEqual((plan.group, plan.is_aligned), (8, False))
      found = run('fused_tpu_interpreted', operands, case['window'])
    for name, x in expected.items():
      self.assertLess(largest_error(x, found[name]), 1e-5, name)

  def test_groups_of_lanes_that_are_no_whole_tiles(self):
    """Six heads of 88 in groups: 528 lanes are filled up to 640."""
    case = dict(grid=(1, 4, 4), window=(1, 4, 4), heads=6, width=88,
                bias=False, num_texts=1)
    operands = make(**case)
    expected = run('xla', operands, case['window'])
    with mock.patch.object(tpu_layout, 'VMEM_LIMIT', 2.8 * 2**20):
      plan = tpu_layout.Plan(
          2, (1, 1, 16), (1, 1, 16), 6, 88, False, 8, 1, 4, is_backward=True)
      self.assertEqual((plan.group, plan.is_aligned, plan.lanes),
                       (1, False, 640))
      found = run('fused_tpu_interpreted', operands, case['window'])
    for name, x in expected.items():
      self.assertLess(largest_error(x, found[name]), 1e-5, name)

  @parameterized.product(form=INTERPRETED)
  def test_half_precision_is_as_exact_as_the_plain_form(self, form):
    case = dict(grid=(2, 4, 4), window=(1, 4, 4), heads=2, width=64)
    half = make(**case, dtype=jnp.bfloat16)
    whole = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    exact = run('xla', whole, case['window'])
    plain = run('xla', half, case['window'])
    for name, x in run(form, half, case['window']).items():
      self.assertLess(
          largest_error(exact[name], x),
          1.5 * largest_error(exact[name], plain[name]), name)

  @parameterized.product(form=INTERPRETED)
  def test_shards_of_rows_and_heads_equal_the_whole(self, form):
    case = dict(grid=(1, 4, 4), window=(1, 4, 4), heads=4, width=64,
                image=True)
    operands = make(**case)
    expected = run(form, operands, case['window'])
    with partition.activate(mesh_lib.make_mesh(2, 1, 2, jax.devices()[:4])):
      found = run(form, operands, case['window'])
    for name, x in expected.items():
      self.assertLess(largest_error(x, found[name]), 1e-6, name)

  @parameterized.parameters(
      ((1, 16, 16), 64, 16, None),
      ((5, 8, 14), 88, 16, None),
      ((5, 8, 14), 112, 16, None),
      ((1, 32, 32), 64, 16, None),
      ((5, 16, 16), 64, 16, '1280 tokens'),
      ((1, 3, 3), 64, 16, '9 tokens'),
      ((1, 16, 16), 72, 8, None),
      ((1, 16, 16), 160, 16, 'width 160'),
  )
  def test_what_a_tpu_is_not_served_takes_the_plain_form(
      self, window, width, heads, reason):
    sizes = operands_lib.Sizes(
        window, window, heads, width, text_length=0, dtype='bfloat16')
    found = fused_attention.refusal('fused_tpu', sizes)
    if reason is None:
      self.assertIsNone(found)
    else:
      self.assertIn(reason, found)
    self.assertEqual(fused_attention.served('fused_tpu', sizes),
                     'xla' if reason else 'fused_tpu')


if __name__ == '__main__':
  absltest.main()
