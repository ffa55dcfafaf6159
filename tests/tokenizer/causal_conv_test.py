"""Tests of the causal convolution."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.tokenizer import causal_conv


def _reference(x, kernel, strides):
  """Loops over outputs and taps, in float64."""
  x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
  b, t, h, w, _ = x.shape
  kt, kh, kw, _, d = kernel.shape
  (st, sh, sw) = strides
  before = [causal_conv.spatial_padding(k, s)[0]
            for k, s in ((kh, sh), (kw, sw))]
  out = np.zeros((b, (t - 1) // st + 1, h // sh, w // sw, d))
  for i, y, z in np.ndindex(*out.shape[1:4]):
    for dt, dy, dz in np.ndindex(kt, kh, kw):
      frame = max(i * st + dt - (kt - 1), 0)
      row, column = y * sh + dy - before[0], z * sw + dz - before[1]
      if 0 <= row < h and 0 <= column < w:
        out[:, i, y, z] += x[:, frame, row, column] @ kernel[dt, dy, dz]
  return out


class CausalConvTest(parameterized.TestCase):

  @parameterized.product(
      form=causal_conv.FORMS,
      case=(((3, 3, 3), (1, 1, 1), 3), ((3, 3, 3), (2, 2, 2), 5),
            ((3, 3, 3), (1, 2, 2), 2), ((2, 1, 3), (1, 1, 1), 4),
            ((1, 1, 1), (1, 1, 1), 2), ((3, 3, 3), (2, 2, 2), 1)))
  def test_equals_naive_loops(self, form, case):
    size, strides, frames = case
    x = jax.random.normal(jax.random.key(0), (2, frames, 4, 6, 3))
    kernel = jax.random.normal(jax.random.key(1), (*size, 3, 4))
    out = causal_conv.causal_conv(x, kernel, strides=strides, form=form)
    np.testing.assert_allclose(out, _reference(x, kernel, strides),
                               rtol=1e-5, atol=1e-5)

  @parameterized.product(form=causal_conv.FORMS, stride=(1, 2))
  def test_chunks_with_context_equal_the_whole(self, form, stride):
    x = jax.random.normal(jax.random.key(0), (1, 9, 4, 4, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 2, 2))
    strides = (stride, 1, 1)
    whole = causal_conv.causal_conv(x, kernel, strides=strides, form=form)
    parts, context = [], None
    for start, stop in ((0, 1), (1, 5), (5, 7), (7, 9)):
      chunk = x[:, start:stop]
      parts.append(causal_conv.causal_conv(
          chunk, kernel, strides=strides, form=form, context=context))
      context = causal_conv.next_context(chunk, 3, stride, context)
      self.assertEqual(context.shape[1], 3 - stride)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole,
                               rtol=1e-5, atol=1e-5)

  def test_wrong_arguments_are_named(self):
    x, kernel = jnp.zeros((1, 1, 3, 4, 1)), jnp.zeros((1, 3, 3, 1, 1))
    with self.assertRaisesRegex(ValueError, "'fast'"):
      causal_conv.causal_conv(x, kernel, form='fast')
    with self.assertRaisesRegex(ValueError, '3x4'):
      causal_conv.causal_conv(x, kernel, strides=(1, 2, 2))
    with self.assertRaisesRegex(ValueError, 'time stride 2'):
      causal_conv.causal_conv(x, kernel, strides=(2, 1, 1))


if __name__ == '__main__':
  absltest.main()
