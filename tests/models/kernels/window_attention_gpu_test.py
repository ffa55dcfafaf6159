"""Triton kernels of window attention against the plain form, interpreted."""
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import gpu_tiles
from walt_jax.models.kernels import operands as operands_lib
from walt_jax.models.kernels import window_attention_gpu

FORM = 'fused_gpu_interpreted'
# Compiling is what these tests spend their time on.
QUICK = {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True}
# Windows of 80 tokens in five tiles, which lie apart in the grid, as those of
# (5, 8, 8); keys are taken in two tiles of 32 and one of 16.
FIVE_TILES = dict(grid=(5, 8, 4), window=(5, 4, 4), width=16)


def make(grid, window, width, *, heads=2, batch=2, norm=True, bias=True,
         image=True, dtype=jnp.float32):
  """Random operands; every other row is an image."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.standard_normal(shape, np.float32))
  tokens = lambda: normal(batch, *grid, heads, width).astype(dtype)
  length = np.prod(window)
  return operands_lib.Operands(
      tokens(), tokens(), tokens(),
      1 + normal(width) / 3 if norm else None,
      1 + normal(width) / 3 if norm else None,
      normal(heads, length, length) if bias else None,
      jnp.arange(batch) % 2 == 1 if image else None)


def run(form, operands, window):
  """Context and gradients of a random weighted sum of it, float32."""
  rng = np.random.default_rng(1)
  weights = rng.standard_normal(operands.query.shape, np.float32)

  def loss(smooth, is_image):
    context = fused_attention.attend(
        operands_lib.Operands(**smooth, is_image=is_image), window, form)
    return jnp.sum(context.astype(jnp.float32) * weights), context

  smooth = {name: x for name, x in operands._asdict().items()
            if x is not None}
  is_image = smooth.pop('is_image', None)
  (_, context), gradients = jax.jit(
      jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)(
          smooth, is_image)
  return {name: np.asarray(x, np.float32)
          for name, x in {'context': context, **gradients}.items()}


def largest_error(expected, found):
  """The largest difference, relative to the largest expected value."""
  return np.abs(expected - found).max() / np.abs(expected).max()


def mean_error(expected, found):
  return np.sqrt(np.mean((expected - found) ** 2))


class KernelsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    # Small windows then have several tiles.
    self.enter_context(mock.patch.object(window_attention_gpu, 'TILE', 16))

  @parameterized.parameters(
      FIVE_TILES,
      # A last tile that is not full, and a head of 16 + 8 columns.
      dict(grid=(1, 4, 14), window=(1, 4, 14), width=24),
      dict(grid=(2, 4, 8), window=(2, 4, 4), width=16, batch=1, norm=False,
           bias=False, image=False),
  )
  def test_equals_the_plain_form(self, **case):
    operands = make(**case)
    expected = run('xla', operands, case['window'])
    found = run(FORM, operands, case['window'])
    self.assertEqual(expected.keys(), found.keys())
    for name, x in expected.items():
      self.assertLess(largest_error(x, found[name]), 1e-5, name)

  @parameterized.parameters(
      # A long window; a wide head, and a last tile that is not full.
      (dict(grid=(5, 4, 4), window=(5, 4, 4), width=16), (64, 32, 16, 32)),
      (dict(grid=(1, 5, 15), window=(1, 5, 15), width=24), (32, 32, 16, 16)),
  )
  def test_other_tiles_change_nothing(self, case, tiles):
    operands = make(**case, batch=2, heads=1)
    expected = run('xla', operands, case['window'])
    with mock.patch.multiple(
        window_attention_gpu, TILE=32, LONG_TILE=64, SHORT=64, WHOLE_HEAD=16):
      problem = window_attention_gpu.make_problem(
          operands, case['window'], True)
      self.assertEqual((problem.tile, problem.keys, problem.keys_queries,
                        problem.queries), tiles)
      found = run(FORM, operands, case['window'])
    for name, x in expected.items():
      self.assertLess(largest_error(x, found[name]), 1e-5, name)

  def test_keys_that_do_not_stay_on_the_chip_change_nothing(self):
    operands = make(**FIVE_TILES, bias=False)
    window = FIVE_TILES['window']
    kept, _ = window_attention_gpu.forward(operands, window, True)
    with mock.patch.object(window_attention_gpu, 'MAX_KEPT_BYTES', 0):
      again, _ = window_attention_gpu.forward(operands, window, True)
    np.testing.assert_allclose(kept, again, atol=1e-6)

  def test_half_precision_is_as_exact_as_the_plain_form(self):
    half = make(**FIVE_TILES, dtype=jnp.bfloat16)
    window = FIVE_TILES['window']
    whole = jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x,
        half)
    exact, plain = run('xla', whole, window), run('xla', half, window)
    for name, x in run(FORM, half, window).items():
      self.assertLess(
          mean_error(exact[name], x),
          1.5 * mean_error(exact[name], plain[name]), name)


class SizesTest(parameterized.TestCase):

  @parameterized.parameters(
      (64, [(0, 64, 64)]),
      (72, [(0, 64, 64), (64, 16, 8)]),
      (88, [(0, 64, 64), (64, 32, 24)]),
      (112, [(0, 64, 64), (64, 32, 32), (96, 16, 16)]),
  )
  def test_heads_are_cut_into_powers_of_two(self, head_dim, expected):
    self.assertEqual([gpu_tiles.Piece(*piece) for piece in expected],
                     list(gpu_tiles.head_pieces(head_dim)))

  @parameterized.parameters(
      ((1, 16, 16), 64, 'bfloat16', None),
      ((5, 8, 8), 64, 'float32', None),
      ((1, 16, 28), 64, 'bfloat16', None),
      ((5, 8, 14), 64, 'bfloat16', None),
      ((5, 8, 8), 72, 'bfloat16', None),
      ((1, 16, 16), 88, 'bfloat16', None),
      ((1, 16, 16), 112, 'bfloat16', 'width 112'),
      ((5, 8, 14), 72, 'bfloat16', None),
      ((1, 32, 32), 64, 'bfloat16', None),
      ((1, 40, 32), 64, 'bfloat16', '1280 tokens'),
      ((1, 16, 16), 160, 'bfloat16', 'width 160'),
      ((1, 16, 16), 64, 'float16', 'float16'),
  )
  def test_says_what_it_does_not_serve(self, window, width, dtype, reason):
    refusal = window_attention_gpu.refusal(operands_lib.Sizes(
        window, window, 16, width, 0, dtype))
    if reason is None:
      self.assertIsNone(refusal)
    else:
      self.assertIn(reason, refusal)


if __name__ == '__main__':
  absltest.main()
