"""Attention against its definition in float64, and the bound of QK norm."""
import importlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models import attention


def reference(query, key, value, bias, mask):
  """softmax(q k / sqrt(d) + bias) v in float64, keys of mask False unseen."""
  query, key, value = (x.astype(np.float64) for x in (query, key, value))
  logits = np.einsum('...lkd,...skd->...kls', query, key)
  logits = logits / np.sqrt(query.shape[-1])
  if bias is not None:
    logits = logits + bias
  if mask is not None:
    logits = np.where(mask[..., None, None, :], logits, -np.inf)
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  return np.einsum('...kls,...skd->...lkd', weights, value)


class Projections(attention.AttentionProjections):
  """The base class with a call: self-attention of [..., L, D]."""

  def __call__(self, x):
    return self.tokens(
        attention.attend(*self.queries_keys(x), self.value(x))).values

  def queries_keys(self, x):
    query_scale, key_scale = self.norm_scales()
    return (attention.normalise(self.query(x), query_scale),
            attention.normalise(self.key(x), key_scale))


class AttendTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.rng = np.random.default_rng(0)

  def normal(self, *shape):
    return self.rng.normal(size=shape).astype(np.float32)

  @parameterized.product(
      lead=((3,), (2, 3)), with_bias=(False, True), with_mask=(False, True))
  def test_is_its_definition(self, lead, with_bias, with_mask):
    heads, length, keys, width = 2, 4, 5, 8
    query = self.normal(*lead, length, heads, width)
    key = self.normal(*lead, keys, heads, width)
    value = self.normal(*lead, keys, heads, width)
    bias = self.normal(heads, length, keys) if with_bias else None
    mask = None
    if with_mask:
      mask = self.rng.random((*lead, keys)) < 0.6
      mask[..., 0] = True
    found = attention.attend(query, key, value, bias=bias, mask=mask)
    np.testing.assert_allclose(
        found, reference(query, key, value, bias, mask), atol=2e-6)

  def test_an_unseen_key_counts_for_nothing(self):
    query, key, value = (self.normal(1, 3, 2, 4) for _ in range(3))
    mask = np.array([[True, True, False]])
    found = attention.attend(query, key, value, mask=mask)
    key[:, 2], value[:, 2] = 100.0, -100.0
    np.testing.assert_array_equal(
        found, attention.attend(query, key, value, mask=mask))

  def test_the_type_of_values_is_kept(self):
    query, key, value = (self.normal(1, 3, 2, 4) for _ in range(3))
    found = attention.attend(*(x.astype(jnp.bfloat16)
                               for x in (query, key, value)))
    self.assertEqual(found.dtype, jnp.bfloat16)

  def test_an_unknown_form_is_refused(self):
    x = self.normal(1, 3, 2, 4)
    with self.assertRaisesRegex(ValueError, 'flash.*xla'):
      attention.attend(x, x, x, form='flash')


class ProjectionsTest(absltest.TestCase):

  def test_normalised_queries_and_keys_bound_the_logits(self):
    width, heads = 32, 4
    head = width // heads
    x = 1e3 * jax.random.normal(jax.random.key(0), (1, 7, width))
    logits = {}
    for use_qk_norm in (False, True):
      module = Projections(width, heads, use_qk_norm=use_qk_norm)
      params = module.init(jax.random.key(1), x)
      query, key = module.apply(params, x, method='queries_keys')
      logits[use_qk_norm] = np.abs(np.einsum(
          'blkd,bskd->bkls', query, key)).max() / np.sqrt(head)
    # Vectors of d normalised entries have length sqrt(d) (Cauchy-Schwarz).
    self.assertLessEqual(logits[True], np.sqrt(head) * (1 + 1e-5))
    self.assertGreater(logits[False], 1e3)

  def test_a_zero_output_starts_as_nothing(self):
    x = jax.random.normal(jax.random.key(0), (1, 7, 8))
    module = Projections(8, 2, zero_output=True)
    found, params = module.init_with_output(jax.random.key(1), x)
    self.assertFalse(np.any(found))
    for leaf in jax.tree.leaves(params):
      self.assertEqual(leaf.dtype, jnp.float32)

  def test_heads_must_divide_the_width(self):
    with self.assertRaisesRegex(ValueError, '3 does not divide width 8'):
      Projections(8, 3).init(jax.random.key(0), jnp.ones((1, 2, 8)))


class CudnnTest(absltest.TestCase):

  def test_a_mask_lowers_for_a_gpu(self):
    """Text is masked; cuDNN wants a row of the mask for each query."""
    fused = importlib.import_module('jax._src.cudnn.fused_attention_stablehlo')
    shape = lambda length: jax.ShapeDtypeStruct(
        (2, 3, length, 2, 8), jnp.bfloat16)
    mask = jax.ShapeDtypeStruct((2, 3, 24), bool)
    with mock.patch.object(fused, 'check_cudnn_version', lambda: 91_000):
      text = jax.jit(lambda q, k, v, m: attention.attend(
          q, k, v, mask=m, form='cudnn')).trace(
              shape(16), shape(24), shape(24), mask).lower(
                  lowering_platforms=('cuda',)).as_text()
    self.assertIn('cudnn$fmha', text)


if __name__ == '__main__':
  absltest.main()
