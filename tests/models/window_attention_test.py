from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.models import window_attention
from walt_jax.models import windows

GRID, WIDTH, HEADS = (3, 4, 4), 8, 2
# Compiling is what these tests spend their time on.
QUICK = {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True}


def make(window):
  """A jitted call, random parameters, and tokens."""
  module = window_attention.WindowAttention(
      width=WIDTH, num_heads=HEADS, window=window)
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, *GRID, WIDTH), np.float32)
  shapes = jax.eval_shape(module.init, jax.random.key(1), x)
  # Biases are large enough to matter.
  params = jax.tree.map(
      lambda leaf: rng.standard_normal(leaf.shape, np.float32) / 2, shapes)
  apply = lambda *arguments: module.apply(*arguments).values
  return jax.jit(apply, compiler_options=QUICK), params, x


def swin_bias(table, window):
  """The table entry of every pair, looked up in a loop."""
  cells = [(i, j, k) for i in range(window[0]) for j in range(window[1])
           for k in range(window[2])]
  bias = np.zeros((table.shape[-1], len(cells), len(cells)), np.float32)
  for a, query in enumerate(cells):
    for b, key in enumerate(cells):
      offset = tuple(q - k + extent - 1 for q, k, extent
                     in zip(query, key, window, strict=True))
      bias[:, a, b] = table[offset]
  return bias


class RelativeBiasTest(parameterized.TestCase):

  @parameterized.parameters((1, 4, 4), (3, 2, 2), (5, 1, 3), (1, 1, 1))
  def test_equals_a_table_lookup(self, *window):
    shape = (*(2 * extent - 1 for extent in window), HEADS)
    table = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(
        jax.jit(window_attention.relative_bias, static_argnums=1)(
            table, window),
        swin_bias(table, window))


class WindowAttentionTest(parameterized.TestCase):

  @parameterized.parameters((1, 4, 4), (3, 2, 2), (1, 2, 4), (3, 4, 4))
  def test_equals_masked_full_attention(self, *window):
    apply, variables, x = make(window)
    params = variables['params']
    tokens = x.reshape(2, -1, WIDTH)

    def project(name):
      y = np.einsum('bld,dkh->blkh', tokens, params[name]['kernel'])
      y += params[name]['bias']
      if name == 'value':
        return y
      y = y - y.mean(-1, keepdims=True)
      y = y / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
      return y * params[f'{name}_norm']['scale']

    logits = np.einsum('blkh,bskh->bkls', project('query'), project('key'))
    logits /= np.sqrt(WIDTH // HEADS)
    # The window that a token is in, and the pair's bias inside of it.
    cells = np.arange(np.prod(GRID)).reshape(1, *GRID, 1)
    members = np.asarray(windows.partition_windows(cells, window))[0, ..., 0]
    mask = np.full(logits.shape[-2:], -np.inf)
    bias = np.zeros((HEADS, *mask.shape))
    inside = swin_bias(params['relative_bias'], window)
    for member in members:
      mask[np.ix_(member, member)] = 0
      for head in range(HEADS):
        bias[head][np.ix_(member, member)] = inside[head]
    weights = np.exp(logits + mask + bias)
    weights /= weights.sum(-1, keepdims=True)
    context = np.einsum('bkls,bskh->blkh', weights, project('value'))
    expected = np.einsum(
        'blkh,khd->bld', context, params['out']['kernel'])
    expected = (expected + params['out']['bias']).reshape(x.shape)
    np.testing.assert_allclose(
        apply(variables, x), expected, atol=2e-5)

  def test_image_rows_pass_their_values_through(self):
    apply, variables, x = make((3, 2, 2))
    params = variables['params']
    out = apply(variables, x, np.asarray([True, False]))
    value = np.einsum('...d,dkh->...kh', x, params['value']['kernel'])
    value += params['value']['bias']
    identity = np.einsum('...kh,khd->...d', value, params['out']['kernel'])
    identity += params['out']['bias']
    np.testing.assert_allclose(out[0], identity[0], atol=1e-5)
    np.testing.assert_allclose(
        out[1], apply(variables, x)[1], atol=1e-5)

  def test_heads_must_divide_the_width(self):
    module = window_attention.WindowAttention(
        width=8, num_heads=3, window=(1, 4, 4))
    with self.assertRaisesRegex(ValueError, '3 does not divide width 8'):
      jax.eval_shape(
          module.init, jax.random.key(0), np.zeros((1, 1, 4, 4, 8)))


if __name__ == '__main__':
  absltest.main()
