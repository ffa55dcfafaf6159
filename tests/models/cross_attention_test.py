from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models import cross_attention
from walt_jax.models import windows

GRID, WIDTH, HEADS, WORDS = (3, 4, 4), 8, 2, 5
B = 2
# Compiling is what these tests spend their time on.
QUICK = {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True}


def make(window):
  """A module, random parameters, and tokens."""
  module = cross_attention.CrossAttention(
      width=WIDTH, num_heads=HEADS, window=window)
  rng = np.random.default_rng(0)
  normal = lambda leaf: rng.standard_normal(leaf.shape, np.float32)
  x = normal(jax.ShapeDtypeStruct((B, *GRID, WIDTH), jnp.float32))
  shapes = jax.eval_shape(
      module.init, jax.random.key(1), x, np.zeros((B, 1, WORDS, WIDTH)),
      np.ones((B, 1, WORDS), bool))
  return module, jax.tree.map(lambda leaf: normal(leaf) / 2, shapes), x


def text_of(num_texts):
  rng = np.random.default_rng(1)
  text = rng.standard_normal((B, num_texts, WORDS, WIDTH), np.float32)
  return text, rng.random(text.shape[:-1]) < 0.6


def masked_full_attention(params, x, window, text, mask):
  """Every token attends to all tokens and all texts, save what is masked."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  tokens = np.asarray(x, np.float64).reshape(B, -1, WIDTH)
  num = tokens.shape[1]
  everything = np.concatenate(
      [tokens, np.asarray(text, np.float64).reshape(B, -1, WIDTH)], axis=1)

  def project(name, inputs):
    y = np.einsum('bld,dkh->blkh', inputs, params[name]['kernel'])
    y += params[name]['bias']
    if name == 'value':
      return y
    y = y - y.mean(-1, keepdims=True)
    y = y / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    return y * params[f'{name}_norm']['scale']

  # The window and the frame that a token is in.
  cells = np.arange(num).reshape(1, *GRID, 1)
  member = np.empty(num, int)
  for index, inside in enumerate(
      np.asarray(windows.partition_windows(cells, window))[0, ..., 0]):
    member[inside] = index
  frame = np.arange(num) // (GRID[1] * GRID[2])
  seen = np.broadcast_to(member[:, None] == member, (B, num, num))
  text_frame = np.repeat(np.arange(text.shape[1]), WORDS)
  own = (frame[:, None] == text_frame) | (text.shape[1] == 1)
  words = own & np.asarray(mask).reshape(B, 1, -1)
  seen = np.concatenate([seen, words], axis=2)

  logits = np.einsum('blkh,bskh->bkls', project('query', tokens),
                     project('key', everything)) / np.sqrt(WIDTH // HEADS)
  logits = np.where(seen[:, None], logits, -np.inf)
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  context = np.einsum('bkls,bskh->blkh', weights, project('value', everything))
  out = np.einsum('blkh,khd->bld', context, params['out']['kernel'])
  return (out + params['out']['bias']).reshape(x.shape)


class CrossAttentionTest(parameterized.TestCase):

  @parameterized.parameters(
      ((1, 4, 4), 1), ((1, 4, 4), 3), ((3, 2, 2), 1), ((1, 2, 2), 3))
  def test_equals_masked_full_attention(self, window, num_texts):
    module, variables, x = make(window)
    text, mask = text_of(num_texts)
    apply = jax.jit(module.apply, compiler_options=QUICK)
    np.testing.assert_allclose(
        apply(variables, x, text, mask).values,
        masked_full_attention(variables['params'], x, window, text, mask),
        atol=2e-5)

  def test_a_text_for_each_frame_needs_windows_of_one_frame(self):
    module, variables, x = make((3, 2, 2))
    with self.assertRaisesRegex(ValueError, '3 texts a row'):
      jax.eval_shape(module.apply, variables, x, *text_of(3))


if __name__ == '__main__':
  absltest.main()
