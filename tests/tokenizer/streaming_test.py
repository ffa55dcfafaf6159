"""Tests that chunks give what the whole gives."""
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import streaming

FULL = autoencoder.Autoencoder(
    base_channels=4, channel_multipliers=(1, 2, 2), time_downsample=(True,
                                                                     True),
    blocks_per_level=1, middle_blocks=1, latent_channels=3, num_groups=2,
    bottleneck='kl', remat=True)
QUICK = autoencoder.Autoencoder(
    base_channels=8, channel_multipliers=(1,), time_downsample=(),
    blocks_per_level=1, middle_blocks=0, latent_channels=3, norm='position',
    stem_patch=(4, 4, 4), stem_kernel=(1, 1, 1), head_kernel=(1, 1, 1),
    linear_ends=True, conv_form='stacked')
# Upsampling that sees no other frame.
HALVED = QUICK.clone(
    channel_multipliers=(1, 2), time_downsample=(True,), kernel_size=(1, 3, 3),
    stem_patch=(2, 2, 2))


@functools.cache
def _params(module):
  shapes = jax.eval_shape(module.init, jax.random.key(0),
                          jnp.zeros((1, 5, 8, 8, 3)))['params']
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: rng.normal(
      x.ndim == 1, 0.2, x.shape).astype(np.float32), shapes)


@functools.cache
def _step(module, method):
  return streaming.make_step(module, method)


@functools.cache
def _whole(module, method):
  # One causal program serves all lengths: a prefix gives the prefix.
  def apply(params, x):
    if method == 'encode':
      return inference.encode_posterior(module, params, x)
    return module.apply({'params': params}, x, method=method)
  return jax.jit(apply)


def _clip(frames):
  return np.random.default_rng(1).integers(
      0, 256, (1, frames, 8, 8, 3), np.uint8)


class StreamingTest(parameterized.TestCase):

  @parameterized.product(module=(FULL, QUICK, HALVED),
                         frames=(1, 5, 17, 33, 65))
  def test_streaming_equals_the_whole(self, module, frames):
    params, clip = _params(module), _clip(65)
    whole = _whole(module, 'encode')(params, clip)
    latent_frames = 1 + (frames - 1) // 4
    chunked = streaming.encode(_step(module, 'encode'), params,
                               clip[:, :frames], f_t=4)
    for a, b in zip(jax.tree.leaves(chunked), jax.tree.leaves(whole),
                    strict=True):
      np.testing.assert_allclose(a, b[:, :latent_frames], atol=2e-4,
                                 rtol=1e-4)
    pixels = _whole(module, 'decode')(params, whole.mean)
    decoded = streaming.decode(_step(module, 'decode'), params, chunked.mean)
    np.testing.assert_allclose(decoded, pixels[:, :frames], atol=5e-4,
                               rtol=1e-4)

  def test_chunks_of_several_latent_frames(self):
    params, clip = _params(FULL), _clip(65)[:, :33]
    one = streaming.encode(_step(FULL, 'encode'), params, clip, f_t=4)
    four = streaming.encode(_step(FULL, 'encode'), params, clip, f_t=4,
                            latent_frames=4)
    np.testing.assert_allclose(one.mean, four.mean, atol=2e-4, rtol=1e-4)

  def test_other_lengths_are_padded_and_cropped(self):
    params, clip = _params(QUICK), _clip(18)
    padded = streaming.pad_frames(clip, 4)
    self.assertEqual(padded.shape[1], 21)
    np.testing.assert_array_equal(padded[:, 18:], clip[:, [17] * 3])
    latents = streaming.encode(_step(QUICK, 'encode'), params, clip, f_t=4)
    self.assertEqual(latents.mean.shape[1], 6)
    decoded = streaming.decode(_step(QUICK, 'decode'), params, latents.mean,
                               num_frames=18)
    whole = _whole(QUICK, 'decode')(
        params, _whole(QUICK, 'encode')(params, padded).mean)
    np.testing.assert_allclose(decoded, whole[:, :18], atol=5e-4, rtol=1e-4)
    self.assertEqual(decoded.shape[1], 18)

  def test_two_programs_serve_any_length(self):
    # The first chunk and all others: a longer clip compiles nothing new.
    step = streaming.make_step(QUICK, 'encode')
    for frames in (9, 33):
      streaming.encode(step, _params(QUICK), _clip(frames), f_t=4)
    self.assertEqual(step._cache_size(), 2)

  def test_a_length_that_does_not_fit_is_named(self):
    with self.assertRaisesRegex(ValueError, '18 frames'):
      list(streaming.frame_chunks(_clip(18), 4, 1))


if __name__ == '__main__':
  absltest.main()
